//! The name that was probably meant.

/// The one of `names` that `wrong` is a slip of the pen away from: a third of its letters, at least one.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: Vec<char> = wrong.chars().take(MAX_CHARS).collect();
    let allowed = (wrong.len() / 3).max(1);
    let ranked = names.into_iter().map(|name| (distance(&wrong, name), name));
    ranked.filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name)
}

/// Longer words are compared by their beginning only: the work grows with the square.
const MAX_CHARS: usize = 64;

/// Levenshtein's distance without regard to case.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(MAX_CHARS).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_a_slip_of_the_pen_and_nothing_else() {
        let plans = ["free", "pro", "business"];
        assert_eq!(nearest("fre", plans), Some("free"));
        assert_eq!(nearest("Free", plans), Some("free"));
        assert_eq!(nearest("busines", plans), Some("business"));
        assert_eq!(nearest("enterprise", plans), None);
        assert_eq!(nearest("", plans), None);
    }
}
