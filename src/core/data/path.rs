//! Paths into JSON data: `a.b[0]['x/y.z']`.

/// Most steps of a path.
pub const STEPS_MAX: usize = 32;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An object's member.
    Member(Member),
    /// A list's item, from 0.
    Item(usize),
}

/// A member's name and what the index knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub(super) name: Box<str>,
    pub(super) hash: u16,
}

impl Member {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A path; empty for the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Box<[Step]>);

impl Path {
    /// Reads `a.b[0]['x/y.z']`, in quotes of either kind; the first may be a bracket. A bare name is any text
    /// without `.`, `[` and `]`; whoever reads text around a path may take less.
    ///
    /// # Errors
    /// Says what is wrong, beginning with a verb.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut steps = Vec::new();
        let mut rest = text;
        let mut first = true;
        while first || !rest.is_empty() {
            let (step, after) = if let Some(inside) = rest.strip_prefix('[') {
                bracket(inside)?
            } else {
                let name = if first { Some(rest) } else { rest.strip_prefix('.') };
                member(name.ok_or("is no path: after ] comes . or [")?)?
            };
            steps.push(step);
            rest = after;
            first = false;
        }
        if steps.len() > STEPS_MAX {
            return Err("is too deep: at most 32 steps");
        }
        Ok(Self(steps.into()))
    }

    /// The steps, from the top.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// A bare name, and what follows it.
fn member(text: &str) -> Result<(Step, &str), &'static str> {
    let (name, after) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
    if name.contains(']') {
        return Err("is no path: ] closes nothing");
    }
    if name.is_empty() {
        return Err("is no path: a name is empty");
    }
    Ok((named(name), after))
}

/// What follows a `[`: a number or a name in quotes, and the closing bracket.
fn bracket(inside: &str) -> Result<(Step, &str), &'static str> {
    for quote in ['\'', '"'] {
        let Some(quoted) = inside.strip_prefix(quote) else { continue };
        let closed =
            quoted.split_once(quote).and_then(|(name, after)| Some((name, after.strip_prefix(']')?)));
        let (name, after) = closed.ok_or("is no path: a name in [''] is not closed")?;
        return Ok((named(name), after));
    }
    let item = inside.split_once(']').and_then(|(number, after)| {
        // `+1` is no position, though it is a number.
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        Some((number.parse().ok().filter(|_| digits)?, after))
    });
    let (number, after) = item.ok_or("is no path: write [0] for the first item of a list")?;
    Ok((Step::Item(number), after))
}

fn named(name: &str) -> Step {
    Step::Member(Member { name: name.into(), hash: super::index::hash(name.as_bytes(), name.len(), false) })
}
