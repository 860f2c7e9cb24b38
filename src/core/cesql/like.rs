//! The patterns of `LIKE`: `%` any characters, `_` one, `\%` and `\_` themselves.
//!
//! A pattern is cut at its `%` into pieces that must follow each other; the first place where one fits is always
//! right, so nothing is ever tried twice: time is linear in the text.

/// Longest piece between two `%` that holds a `_`, in characters: each place of a text may be compared with all
/// of it.
pub(super) const PIECE_MAX: usize = 64;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Before the first `%`; all of it where there is none.
    first: Piece,
    /// Between two `%`.
    middle: Vec<Piece>,
    /// After the last `%`; `None` where there is none.
    last: Option<Piece>,
}

/// Characters that stand beside each other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// `None` is any character.
    Places(Box<[Option<char>]>),
}

impl Pattern {
    /// Reads a pattern. A `\` before anything but `%` and `_` is itself.
    ///
    /// # Errors
    /// When a piece is longer than [`PIECE_MAX`].
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = vec![Vec::new()];
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            let place = match c {
                '\\' => Some(rest.next_if(|c| matches!(c, '%' | '_')).unwrap_or('\\')),
                '_' => None,
                '%' => {
                    pieces.push(Vec::new());
                    continue;
                }
                c => Some(c),
            };
            if let Some(piece) = pieces.last_mut() {
                piece.push(place);
            }
        }
        let mut pieces: Vec<Piece> = pieces.into_iter().map(Piece::of).collect();
        let last = if pieces.len() > 1 { pieces.pop() } else { None };
        let first = if pieces.is_empty() { Piece::Text("".into()) } else { pieces.remove(0) };
        pieces.retain(|piece| *piece != Piece::Text("".into()));
        let too_long = |piece: &Piece| matches!(piece, Piece::Places(places) if places.len() > PIECE_MAX);
        if pieces.iter().any(too_long) {
            return Err("has more than 64 characters with a _ between two %");
        }
        Ok(Self { first, middle: pieces, last })
    }

    /// Whether all of the text fits.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(mut rest) = self.first.after(text) else { return false };
        let Some(last) = &self.last else { return rest.is_empty() };
        for piece in &self.middle {
            let Some(after) = piece.after_first(rest) else { return false };
            rest = after;
        }
        last.ends(rest)
    }
}

impl Piece {
    fn of(places: Vec<Option<char>>) -> Self {
        match places.iter().copied().collect::<Option<String>>() {
            Some(text) => Self::Text(text.into()),
            None => Self::Places(places.into()),
        }
    }

    /// What follows it where the text begins with it.
    fn after<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Text(piece) => text.strip_prefix(&**piece),
            Self::Places(places) => {
                let mut chars = text.chars();
                let fits = |place: &Option<char>| {
                    chars.next().is_some_and(|c| place.is_none_or(|place| place == c))
                };
                places.iter().all(fits).then_some(chars.as_str())
            }
        }
    }

    /// What follows the first place where it fits.
    fn after_first<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Text(piece) => text.split_once(&**piece).map(|(_, after)| after),
            Self::Places(_) => {
                let mut rest = text.chars();
                loop {
                    if let Some(after) = self.after(rest.as_str()) {
                        return Some(after);
                    }
                    rest.next()?;
                }
            }
        }
    }

    fn ends(&self, text: &str) -> bool {
        match self {
            Self::Text(piece) => text.ends_with(&**piece),
            Self::Places(places) => {
                let mut chars = text.chars().rev();
                let mut fits = |place: &Option<char>| {
                    chars.next().is_some_and(|c| place.is_none_or(|place| place == c))
                };
                places.iter().rev().all(&mut fits)
            }
        }
    }
}
