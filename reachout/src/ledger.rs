//! The ledger: every transition with actor, reason, evidence and policy version, append-only and chained by hashes.
//!
//! An entry's hash covers the one before it and every field of its own, each with its length, so no edit, removal, insertion
//! or exchange goes unseen; that the newest entries were cut off is seen by whoever kept the [`Head`]. Fact and evidence are
//! hashed as the text that is stored, so a later version verifies what an earlier one wrote. Storage is the agent's.

use crate::{
    actor::{Actor, Reason},
    fact::Fact,
    policy::PolicyVersion,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use time::OffsetDateTime;

/// SHA-256.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

/// An entry before it has its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub at: OffsetDateTime,
    pub zone: String,
    pub actor: Actor,
    pub reason: Reason,
    /// JSON.
    pub evidence: String,
    pub policy: PolicyVersion,
    pub fact: Fact,
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 1 for the first.
    pub seq: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub zone: String,
    pub actor: Actor,
    pub reason: Reason,
    /// JSON, as it was written.
    pub evidence: String,
    pub policy: PolicyVersion,
    /// A [`Fact`] as JSON, as it was written.
    pub fact: String,
    pub previous: Hash,
    pub hash: Hash,
}

/// The end of a chain: what the next entry hangs on, and what a later check is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: Hash,
}

/// A fact could not be written or read as JSON.
#[derive(Debug, thiserror::Error)]
#[error("ledger entry {seq}: its fact is not readable: {source}")]
pub struct FactError {
    pub seq: u64,
    source: serde_json::Error,
}

/// The chain is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("ledger entry {expected} is missing: {found} stands in its place")]
    Missing { expected: u64, found: u64 },
    #[error("ledger entry {seq} does not follow the one before it")]
    Link { seq: u64 },
    #[error("ledger entry {seq} was changed after it was written")]
    Edited { seq: u64 },
    #[error("the ledger ends at entry {end}; entry {kept} was written")]
    Cut { end: u64, kept: u64 },
    #[error("ledger entry {seq} is not the one that was written")]
    Replaced { seq: u64 },
    #[error("the ledger has {rows} rows beside its chain, which weir did not write")]
    Beside { rows: u64 },
}

impl Head {
    /// The next entry; the head moves on to it.
    pub fn append(&mut self, draft: Draft) -> Result<Entry, FactError> {
        let seq = self.seq + 1;
        let fact = serde_json::to_string(&draft.fact).map_err(|source| FactError { seq, source })?;
        let Draft { at, zone, actor, reason, evidence, policy, fact: _ } = draft;
        let previous = self.hash;
        let mut entry =
            Entry { seq, at, zone, actor, reason, evidence, policy, fact, previous, hash: Hash::default() };
        entry.hash = entry.digest();
        *self = Self { seq, hash: entry.hash };
        Ok(entry)
    }

    /// The head after one more entry, if it is the one that was written after this head.
    pub fn follow(self, entry: &Entry) -> Result<Self, Broken> {
        let seq = entry.seq;
        if seq != self.seq + 1 {
            return Err(Broken::Missing { expected: self.seq + 1, found: seq });
        }
        if entry.previous != self.hash {
            return Err(Broken::Link { seq });
        }
        if entry.digest() != entry.hash {
            return Err(Broken::Edited { seq });
        }
        Ok(Self { seq, hash: entry.hash })
    }
}

/// Checks a whole ledger. `kept` is a head that was noted elsewhere, if there is one.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a Entry>, kept: Option<Head>) -> Result<Head, Broken> {
    let mut head = Head::default();
    for entry in entries {
        head = head.follow(entry)?;
        if kept.is_some_and(|kept| kept.seq == head.seq && kept.hash != head.hash) {
            return Err(Broken::Replaced { seq: head.seq });
        }
    }
    match kept {
        Some(kept) if kept.seq > head.seq => Err(Broken::Cut { end: head.seq, kept: kept.seq }),
        _ => Ok(head),
    }
}

impl Entry {
    pub fn fact(&self) -> Result<Fact, FactError> {
        serde_json::from_str(&self.fact).map_err(|source| FactError { seq: self.seq, source })
    }

    fn digest(&self) -> Hash {
        let (actor_kind, actor_name) = match &self.actor {
            Actor::Policy => ("policy", ""),
            Actor::Person(person) => ("person", person.as_str()),
            Actor::Customer => ("customer", ""),
            Actor::Delivery => ("delivery", ""),
        };
        let mut sha = Sha256::new();
        sha.update(self.previous.0);
        sha.update(self.seq.to_be_bytes());
        sha.update(self.at.unix_timestamp_nanos().to_be_bytes());
        let texts = [
            &self.zone,
            actor_kind,
            actor_name,
            self.reason.as_str(),
            &self.evidence,
            self.policy.as_str(),
            &self.fact,
        ];
        for text in texts {
            sha.update((text.len() as u64).to_be_bytes());
            sha.update(text);
        }
        Hash(sha.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct NotAHash;

impl TryFrom<String> for Hash {
    type Error = NotAHash;

    fn try_from(text: String) -> Result<Self, NotAHash> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotAHash);
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NotAHash)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(hash))
    }
}
