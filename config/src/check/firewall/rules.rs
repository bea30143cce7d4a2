//! `rules`: conditions in CEL, compiled when they are read.

use super::dry_run;
use crate::{
    condition::{Condition, ConditionFault},
    model::{CustomAction, CustomRule, OnError, RuleId},
    raw::{Section, Value},
};

const ON_ERROR: [(&str, OnError); 2] = [("not_matched", OnError::NotMatched), ("matched", OnError::Matched)];
/// The longest body of a block. Bytes.
const MAX_BODY: usize = 16 * 1024;
const FORBIDDEN: u64 = 403;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Block,
    Log,
}

const ACTIONS: [(&str, Action); 3] =
    [("allow", Action::Allow), ("block", Action::Block), ("log", Action::Log)];

pub(super) fn read(rule: &Section<'_>, id: Option<RuleId>, has_geoip: bool) -> Option<CustomRule> {
    let when = rule.required("when", "'path.startsWith(\"/admin\")'").and_then(|value| {
        let text = value.text("'path.startsWith(\"/admin\")'")?;
        condition(text, &value, has_geoip)
    });
    let chosen = rule.required("action", "\"block\"").and_then(|value| value.choice(&ACTIONS));
    let status = rule.get("status").and_then(|value| value.number(400..=599, FORBIDDEN)).unwrap_or(FORBIDDEN);
    let body = rule.get("body").and_then(|value| body(&value));
    if let Some(other) = chosen.filter(|action| *action != Action::Block) {
        for value in ["status", "body"].iter().filter_map(|key| rule.get(key)) {
            let name = ACTIONS.iter().find(|(_, action)| *action == other).map_or("", |(name, _)| name);
            value.fault(
                format!("\"{name}\" answers nothing, so there is no use for `status` and `body`"),
                "remove it, or write action = \"block\"",
            );
        }
    }
    let action = match chosen? {
        Action::Allow => CustomAction::Allow,
        Action::Log => CustomAction::Log,
        Action::Block => CustomAction::Block { status: u16::try_from(status).ok()?, body },
    };
    let on_error =
        rule.get("on_error").and_then(|value| value.choice(&ON_ERROR)).unwrap_or(OnError::NotMatched);
    Some(CustomRule { id: id?, when: when?, action, on_error, dry_run: dry_run(rule) })
}

fn condition(text: &str, value: &Value<'_>, has_geoip: bool) -> Option<Condition> {
    match Condition::parse(text) {
        Ok(condition) if condition.uses("country") && !has_geoip => {
            value.fault(
                "`when` asks for the country, and there is no database to look it up in",
                "add geoip = \"GeoLite2-Country.mmdb\" to [firewall]",
            );
            None
        }
        Ok(condition) => Some(condition),
        Err(ConditionFault { message, remedy, line, column }) => {
            value.fault(
                format!(
                    "`when` is no condition: at line {line}, column {column} of the expression: {message}"
                ),
                remedy,
            );
            None
        }
    }
}

fn body(value: &Value<'_>) -> Option<std::sync::Arc<str>> {
    let text = value.text("\"Not from here.\"")?;
    if text.len() > MAX_BODY {
        value.fault(format!("`body` has {} bytes, more than {MAX_BODY}", text.len()), "write less");
        return None;
    }
    Some(text.into())
}
