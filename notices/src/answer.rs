//! What a customer sends from the page of a link: one of three answers, and perhaps some words.

use weir_reachout::fact::Answer;

/// Bytes of a form that are read.
pub const LONGEST_FORM: usize = 16 * 1024;
/// Letters of the words that are kept.
pub const MOST_WORDS: usize = 2000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub answer: Answer,
    /// Without controls but line ends; never empty.
    pub words: Option<String>,
}

/// Nothing that the page sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the form is longer than {LONGEST_FORM} bytes")]
    TooLong,
    #[error("the form has no answer that the page offers")]
    None,
}

/// Reads `application/x-www-form-urlencoded`.
pub fn read(form: &[u8]) -> Result<Answered, AnswerError> {
    if form.len() > LONGEST_FORM {
        return Err(AnswerError::TooLong);
    }
    let (mut answer, mut words) = (None, None);
    for (name, value) in form_urlencoded::parse(form) {
        match (name.as_ref(), value.as_ref()) {
            ("answer", "event") => answer = Some(Answer::Event),
            ("answer", "talk") => answer = Some(Answer::Talk),
            ("answer", "plans") => answer = Some(Answer::Plans),
            ("answer", _) => return Err(AnswerError::None),
            ("words", said) => words = cleaned(said),
            _ => {}
        }
    }
    answer.map(|answer| Answered { answer, words }).ok_or(AnswerError::None)
}

fn cleaned(words: &str) -> Option<String> {
    let words = words.replace("\r\n", "\n");
    let kept: String = words.chars().filter(|c| *c == '\n' || !c.is_control()).take(MOST_WORDS).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// As it is in a form, and as `thanks.html` has it.
pub const fn label(answer: Answer) -> &'static str {
    match answer {
        Answer::Event => "event",
        Answer::Talk => "talk",
        Answer::Plans => "plans",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_button_of_the_page_is_understood() {
        for answer in [Answer::Event, Answer::Talk, Answer::Plans] {
            let form = format!("answer={}&words=", label(answer));
            assert_eq!(read(form.as_bytes()), Ok(Answered { answer, words: None }));
        }
        let said = read(b"answer=talk&words=A+launch%0d%0aon%20Monday%00%1b&other=x").expect("an answer");
        assert_eq!(said.words.as_deref(), Some("A launch\non Monday"));
    }

    #[test]
    fn what_no_button_sends_is_no_answer_and_words_have_a_bound() {
        for form in [&b""[..], b"answer=limit", b"words=hello", b"answer=", b"\xff\xfe=%zz"] {
            assert_eq!(read(form), Err(AnswerError::None), "{form:?}");
        }
        let long = format!("answer=talk&words={}", "a".repeat(10_000));
        assert_eq!(
            read(long.as_bytes()).expect("an answer").words.map(|words| words.len()),
            Some(MOST_WORDS)
        );
        let longer = format!("answer=talk&words={}", "a".repeat(LONGEST_FORM));
        assert_eq!(read(longer.as_bytes()), Err(AnswerError::TooLong));
    }
}
