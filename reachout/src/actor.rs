//! Who did something, and why. Both go into every ledger entry; neither can be empty.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Who brought a transition about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Actor {
    /// The policy itself, by a decision or because time has passed.
    Policy,
    /// An operator.
    Person(Person),
    /// The zone's customer, by a signed link.
    Customer,
    /// A mail server's word on a notice.
    Delivery,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $error:ident, $message:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl $name {
            pub fn new(text: impl Into<String>) -> Result<Self, $error> {
                let text = text.into();
                let text = text.trim();
                if text.is_empty() { Err($error) } else { Ok(Self(text.to_owned())) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// An operator by name, as the admin API knows them.
    Person, NoPerson, "a person has to be named"
);
text!(
    /// Why, in the words of whoever acted.
    Reason, NoReason, "a reason has to be given"
);

/// Reasons of the policy's own acts.
pub(crate) fn because(words: &'static str) -> Reason {
    Reason(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_is_nobody_and_no_reason_however_it_arrives() {
        assert_eq!(Person::new(" \t"), Err(NoPerson));
        assert_eq!(Reason::new(""), Err(NoReason));
        assert!(serde_json::from_str::<Person>("\"  \"").is_err());
        assert_eq!(Person::new(" ann ").expect("named").as_str(), "ann");
    }
}
