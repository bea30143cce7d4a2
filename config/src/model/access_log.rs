//! `access_log` of `[proxy]`.

use std::path::PathBuf;

/// One line for each request, and two for each WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Default `json`.
    pub format: LogFormat,
    /// Default `off`.
    pub to: LogTo,
}

/// `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// The form of Apache's and nginx' `combined`, with more behind it.
    Combined,
}

/// `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    Off,
    Stdout,
    /// A file that is appended to, and opened anew with each reload.
    File(PathBuf),
}
