//! How a failure is told: one sentence, or all faults of a configuration with their places.

use weir_config::ConfigError;

/// The error and its causes in one text. A cause that the text has already said is not said again.
pub fn describe(error: &anyhow::Error) -> String {
    if let Some(faults) = error.downcast_ref::<ConfigError>() {
        return faulty(faults);
    }
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn faulty(error: &ConfigError) -> String {
    match error.faults.len() {
        1 => format!("the configuration has a fault:\n{error}"),
        faults => format!("the configuration has {faults} faults:\n{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen: {source} (is it taken?)")]
    struct Wordy {
        source: std::io::Error,
    }

    #[test]
    fn every_cause_is_said_once() {
        let source = std::io::Error::other("address in use");
        let error = anyhow::Error::from(Wordy { source }).context("the proxy does not start");
        assert_eq!(
            describe(&error),
            "the proxy does not start: cannot listen: address in use (is it taken?)"
        );
    }

    #[test]
    fn causes_that_are_not_in_the_text_follow_it() {
        let error = anyhow::anyhow!("disk full").context("cannot write").context("no log");
        assert_eq!(describe(&error), "no log: cannot write: disk full");
    }
}
