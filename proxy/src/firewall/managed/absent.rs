//! Stands in for libmodsecurity in a build without it.

use std::{convert::Infallible, path::PathBuf};

use super::{Findings, Head};

/// Rules that this weir cannot read.
#[derive(Debug, thiserror::Error)]
#[error(
    "managed rules are configured, and this weir was built without them: build it with `--features modsecurity`, or set `mode` to \"off\""
)]
pub struct CompileError;

/// There are none.
pub(crate) struct Compiled(Infallible);

impl Compiled {
    pub fn of(_: &[PathBuf]) -> Result<Self, CompileError> {
        Err(CompileError)
    }

    pub fn inspect(&self, _: &Head) -> Option<Findings> {
        match self.0 {}
    }
}
