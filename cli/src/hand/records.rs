//! Acts as people read them.

use std::time::Duration;

use time::{OffsetDateTime, macros::format_description};
use weir_agent::ActRecord;

use crate::{
    table::{Align, Table},
    text::{Line, Style, plural},
};

/// `2026-03-01 12:00:00Z`.
pub fn moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z")).unwrap_or_default()
}

/// What an act says, in words.
pub fn what(act: &ActRecord) -> String {
    let zone = act.zone.as_deref().unwrap_or("?");
    let prefix = act.prefix.as_deref().unwrap_or("?");
    let sockets = act.sockets.unwrap_or(0);
    match act.act.as_str() {
        "deny_add" => format!("new connections from {prefix} are dropped"),
        "deny_remove" => format!("{prefix} is no longer denied"),
        "cap_set" => format!("{zone} has at most {} live WebSockets", act.websockets.unwrap_or(0)),
        "cap_clear" => format!("{zone} has its plan's cap again"),
        "zone_block" => format!("{zone} is blocked"),
        "zone_unblock" => format!("{zone} is no longer blocked"),
        "kill" if act.zone.is_some() => format!("{} of {zone} to be ended", plural(sockets, "socket")),
        "kill" => format!("{} from {prefix} to be ended", plural(sockets, "socket")),
        other => format!("{other} of {zone}"),
    }
}

/// The one line that answers an act.
pub fn done(act: &ActRecord) -> Line {
    let until = act.until.map_or_else(String::new, |until| format!(" until {}", moment(until)));
    Line::new(Style::Good, format!("{}{until}", what(act)))
        .and(Style::Faint, format!(" (ledger entry {})", act.entry))
}

/// What an answer warns of.
pub fn warning(text: &String) -> Line {
    Line::new(Style::Warn, format!("warning: {text}"))
}

/// A table of acts.
pub fn table(acts: &[ActRecord], now: OffsetDateTime) -> Vec<Line> {
    let mut table = Table::new([
        ("entry", Align::Right),
        ("at", Align::Left),
        ("who", Align::Left),
        ("what", Align::Left),
        ("until", Align::Left),
        ("why", Align::Left),
    ]);
    for act in acts {
        let who = match &act.login {
            Some(login) => format!("{} ({login})", act.who),
            None => act.who.clone(),
        };
        let style = if act.in_force { Style::Strong } else { Style::Plain };
        table.push(vec![
            (Style::Plain, act.entry.to_string()),
            (Style::Plain, moment(act.at)),
            (Style::Plain, who),
            (style, what(act)),
            (Style::Plain, act.until.map_or_else(String::new, |until| end(until, act.in_force, now))),
            (Style::Plain, act.reason.replace(['\n', '\t'], " ")),
        ]);
    }
    table.lines()
}

/// When it ends, and how long that is from now.
pub fn end(until: OffsetDateTime, in_force: bool, now: OffsetDateTime) -> String {
    let left = Duration::try_from(until - now).ok().filter(|_| in_force);
    match left {
        // To the minute, but for the last one.
        Some(left) if left.as_secs() >= 60 => {
            let minutes = Duration::from_secs(left.as_secs() / 60 * 60);
            format!("{} ({} left)", moment(until), humantime::format_duration(minutes))
        }
        Some(left) => format!("{} ({} s left)", moment(until), left.as_secs()),
        None => moment(until),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::to_text;

    const AT: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

    fn act(name: &str, in_force: bool) -> ActRecord {
        ActRecord {
            entry: 7,
            at: AT,
            act: name.to_owned(),
            zone: Some("a.example".to_owned()),
            prefix: None,
            websockets: Some(200),
            sockets: None,
            who: "root".to_owned(),
            login: Some("ann".to_owned()),
            reason: "scan,\nsee 42".to_owned(),
            until: Some(AT + Duration::from_secs(3600)),
            in_force,
        }
    }

    #[test]
    fn an_act_is_one_row_with_who_why_and_until() {
        let text = to_text(&table(&[act("cap_set", true), act("zone_block", false)], AT), false);
        let expected = "\
entry  at                    who         what                                      until                            why
    7  2026-03-01 12:00:00Z  root (ann)  a.example has at most 200 live WebSockets  2026-03-01 13:00:00Z (1h left)  scan, see 42
    7  2026-03-01 12:00:00Z  root (ann)  a.example is blocked                       2026-03-01 13:00:00Z            scan, see 42
";
        let squeezed =
            |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&text), squeezed(expected));
    }

    #[test]
    fn what_was_done_is_told_with_its_entry() {
        let line = done(&act("zone_block", true)).render(false);
        assert_eq!(line, "a.example is blocked until 2026-03-01 13:00:00Z (ledger entry 7)");
    }
}
