//! `access_log` of `[proxy]`.

use crate::{
    model::{AccessLog, LogFormat, LogTo},
    raw::{ACCESS_LOG, Section, Value},
};

const FORMAT: [(&str, LogFormat); 2] = [("json", LogFormat::Json), ("combined", LogFormat::Combined)];
const EXAMPLE: &str = "\"/var/log/weir/access.log\"";

pub(super) fn read(proxy: &Section<'_>) -> AccessLog {
    let section = proxy.section("access_log", &ACCESS_LOG);
    AccessLog {
        format: section.get("format").and_then(|value| value.choice(&FORMAT)).unwrap_or(LogFormat::Json),
        to: section.get("to").and_then(|value| to(&value)).unwrap_or(LogTo::Off),
    }
}

/// A file needs a slash in its name, so that a slip in a word makes none.
fn to(value: &Value<'_>) -> Option<LogTo> {
    match value.text(EXAMPLE)? {
        "off" => Some(LogTo::Off),
        "stdout" => Some(LogTo::Stdout),
        path if path.contains('/') => Some(LogTo::File(value.path(EXAMPLE)?)),
        other => {
            let message = format!("`to` is {other:?}, which is neither \"stdout\" nor \"off\" nor a path");
            value.fault(message, format!("for example to = {EXAMPLE}; a file in this folder is \"./NAME\""));
            None
        }
    }
}
