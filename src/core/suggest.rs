//! The nearest right name for a wrong one.

/// Most names a hint lists.
const LISTED_MAX: usize = 24;

/// `did you mean …` where one of `allowed` is near, else all that is allowed.
pub fn hint<S: AsRef<str>>(name: &str, allowed: &[S]) -> String {
    if let Some(near) = nearest(name, allowed) {
        return format!("did you mean `{near}`?");
    }
    if allowed.is_empty() {
        return "there is none to choose from".to_owned();
    }
    let listed: Vec<&str> = allowed.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    let more = if allowed.len() > listed.len() { ", …" } else { "" };
    format!("allowed here: {}{more}", listed.join(", "))
}

/// The one of `allowed` that `name` is probably meant to be: the same in another spelling (`labelSelector`
/// for `label_selector`), else the fewest typing mistakes away, at most one in three characters.
pub fn nearest<'a, S: AsRef<str>>(name: &str, allowed: &'a [S]) -> Option<&'a str> {
    let folded = fold(name);
    let most = (folded.chars().count() / 3).max(1);
    allowed
        .iter()
        .map(AsRef::as_ref)
        .map(|have| (strsim::damerau_levenshtein(&folded, &fold(have)), have))
        .filter(|&(distance, have)| distance <= most && distance < have.len())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, have)| have)
}

/// Without what separates words and without case, so that all spellings of one name are equal.
fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ' | '.')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_another_spelling_or_with_a_slip_is_recognised() {
        let allowed = ["label_selector", "field_selector", "topic", "qos"];
        for (name, expected) in [
            ("labelSelector", Some("label_selector")),
            ("label-selector", Some("label_selector")),
            ("tpoic", Some("topic")),
            ("QoS", Some("qos")),
            ("qs", Some("qos")),
            ("retain", None),
        ] {
            assert_eq!(nearest(name, &allowed), expected, "{name}");
        }
    }

    #[test]
    fn with_none_near_the_allowed_ones_are_listed() {
        assert_eq!(hint("zzz", &["a_name", "another"]), "allowed here: a_name, another");
        assert_eq!(hint::<&str>("zzz", &[]), "there is none to choose from");
    }
}
