//! Managed rules: files in ModSecurity's language, such as the OWASP Core Rule Set.

use std::{num::NonZero, path::PathBuf, sync::Arc, time::Duration};

use super::RuleId;

/// What a zone's requests have to pass last. Default off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// What the whole stage is called in counters and answers: `managed`.
    pub id: RuleId,
    pub mode: ManagedMode,
    /// The files of rules in the order in which they are read, patterns replaced by what they fit. They exist when the
    /// configuration is checked; what is in them is the proxy's to read. Empty only if the mode is off.
    pub rules: Arc<[PathBuf]>,
    /// These, and what else in their folders rules may be made of (`*.conf`, `*.data`): a change of one is one of the rules.
    pub files: Arc<[PathBuf]>,
    pub uninspected: Uninspected,
}

impl Default for Managed {
    fn default() -> Self {
        Self {
            id: RuleId("managed".into()),
            mode: ManagedMode::Off,
            rules: Arc::default(),
            files: Arc::default(),
            uninspected: Uninspected::Refuse,
        }
    }
}

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedMode {
    Off,
    /// What the rules object to is counted, and passes.
    Detect,
    Block,
}

/// `uninspected`: what becomes of a request that could not be inspected in time. In the mode `Detect` it passes anyhow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uninspected {
    Refuse,
    Pass,
}

/// What inspecting may take of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManagedPool {
    /// Requests that are inspected at a time; default, as none, half of the CPUs, at least one.
    pub threads: Option<NonZero<u32>>,
    /// How long a request waits for one of them; default 500 ms.
    pub max_wait: Duration,
}

impl Default for ManagedPool {
    fn default() -> Self {
        Self { threads: None, max_wait: Duration::from_millis(500) }
    }
}
