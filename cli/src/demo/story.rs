//! What just happened, in words: the kernel's events, and what the zones' numbers add to them.
//!
//! The kernel says at most once a second and zone that something began; the story makes one tale of what belongs together: a
//! beginning and, when it is over, an end with its numbers.

use std::{collections::HashMap, time::Duration};

use weir_agent::{EventRecord, ZoneRecord};

use crate::text::{Line, Style};

/// A refusal after this long a pause begins another tale.
const PAUSE: Duration = Duration::from_secs(2);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// After the beginning of the demo.
    pub at: Duration,
    style: Style,
    text: String,
}

impl Entry {
    /// `0:07  shop.localhost went above its guideline`.
    pub fn line(&self) -> Line {
        Line::new(Style::Faint, clock(self.at) + "  ").and(self.style, &self.text)
    }
}

/// `m:ss`.
pub fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A zone that is being refused.
struct Refusing {
    /// Refusals before it began.
    before: u64,
    total: u64,
    grew: Duration,
}

/// Everything that happened, oldest first.
#[derive(Default)]
pub struct Story {
    pub entries: Vec<Entry>,
    /// Zones above their guideline, and their highest number there.
    above: HashMap<String, u64>,
    refusing: HashMap<String, Refusing>,
    /// Refusals at the last look.
    refused: HashMap<String, u64>,
}

impl Story {
    /// Goes on. `zones` are not older than `events`.
    pub fn go_on(&mut self, at: Duration, events: &[EventRecord], zones: &[ZoneRecord]) {
        events.iter().for_each(|event| self.hear(at, event));
        for zone in zones {
            self.follow_guideline(at, zone);
            self.follow_refusals(at, zone);
            self.refused.insert(zone.zone.clone(), zone.refused_total);
        }
    }

    fn say(&mut self, at: Duration, style: Style, text: String) {
        self.entries.push(Entry { at, style, text });
    }

    fn hear(&mut self, at: Duration, event: &EventRecord) {
        let zone = event.zone.as_deref().unwrap_or("the host");
        let bound = event.bound.unwrap_or(0);
        match event.kind.as_str() {
            "above_guideline" => {
                let live = event.websockets.unwrap_or(0);
                if self.above.insert(zone.to_owned(), live).is_none() {
                    let text =
                        format!("{zone} went above its guideline ({live} > {bound}): nothing is refused");
                    self.say(at, Style::Warn, text);
                }
            }
            "refused" => {
                let before = self.refused.get(zone).copied().unwrap_or(0);
                let begins = !self.refusing.contains_key(zone);
                let tale = Refusing { before, total: before, grew: at };
                self.refusing.entry(zone.to_owned()).or_insert(tale).grew = at;
                if begins {
                    let why = reason(event.reason.as_deref().unwrap_or("unknown"));
                    self.say(at, Style::Bad, format!("{zone} refused at its {why} ({bound})"));
                }
            }
            "reload" => {
                let what = event.message.as_deref().unwrap_or_default();
                self.say(at, Style::Good, format!("configuration reloaded: {what}"));
            }
            "reload_failed" => {
                let faults = event.message.as_deref().unwrap_or_default();
                let first = faults.lines().next().unwrap_or_default();
                self.say(at, Style::Bad, format!("configuration not reloaded: {first}"));
            }
            kind => {
                let what = event.message.as_deref().unwrap_or_default();
                self.say(at, Style::Bad, format!("{kind}: {what}"));
            }
        }
    }

    fn follow_guideline(&mut self, at: Duration, zone: &ZoneRecord) {
        let Some(highest) = self.above.get_mut(&zone.zone) else { return };
        *highest = zone.websockets.max(*highest);
        if zone.websockets <= zone.guideline {
            let highest = *highest;
            self.above.remove(&zone.zone);
            let text = format!("{} is back within its guideline, after up to {highest}", zone.zone);
            self.say(at, Style::Good, text);
        }
    }

    fn follow_refusals(&mut self, at: Duration, zone: &ZoneRecord) {
        let Some(tale) = self.refusing.get_mut(&zone.zone) else { return };
        if zone.refused_total > tale.total {
            tale.total = zone.refused_total;
            tale.grew = at;
        } else if at.saturating_sub(tale.grew) >= PAUSE {
            let refused = tale.total - tale.before;
            self.refusing.remove(&zone.zone);
            let text = format!("{}: nobody is refused any more, {refused} got a 503", zone.zone);
            self.say(at, Style::Good, text);
        }
    }
}

/// A refusal's label in words.
fn reason(label: &str) -> String {
    match label {
        "abuse_cap" | "socket_cap" | "limit" => label.replace('_', " "),
        other => format!("edge: {}", other.replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone_cells::tests::zone;

    fn event(kind: &str, websockets: u64, bound: u64) -> EventRecord {
        EventRecord {
            id: 0,
            at: time::OffsetDateTime::UNIX_EPOCH,
            kind: kind.to_owned(),
            zone: Some("a".to_owned()),
            reason: (kind == "refused").then(|| "abuse_cap".to_owned()),
            websockets: Some(websockets),
            bound: Some(bound),
            source: None,
            message: None,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn texts(story: &Story) -> Vec<String> {
        story.entries.iter().map(|entry| entry.line().render(false)).collect()
    }

    #[test]
    fn a_spike_has_a_beginning_and_an_end() {
        let mut story = Story::default();
        story.go_on(at(3), &[event("above_guideline", 101, 100)], &[zone("a", 120, 0)]);
        story.go_on(at(4), &[event("above_guideline", 101, 100)], &[zone("a", 140, 0)]);
        story.go_on(at(63), &[], &[zone("a", 100, 0)]);
        story.go_on(at(64), &[], &[zone("a", 90, 0)]);
        assert_eq!(
            texts(&story),
            [
                "0:03  a went above its guideline (101 > 100): nothing is refused",
                "1:03  a is back within its guideline, after up to 140"
            ]
        );
    }

    #[test]
    fn refusals_without_a_pause_are_one_tale_with_their_number() {
        let mut story = Story::default();
        story.go_on(at(0), &[], &[zone("a", 1000, 5)]);
        story.go_on(at(1), &[event("refused", 1000, 1000)], &[zone("a", 1000, 20)]);
        story.go_on(at(2), &[event("refused", 1000, 1000)], &[zone("a", 1000, 35)]);
        story.go_on(at(3), &[], &[zone("a", 900, 35)]);
        story.go_on(at(4), &[], &[zone("a", 900, 35)]);
        assert_eq!(
            texts(&story),
            ["0:01  a refused at its abuse cap (1000)", "0:04  a: nobody is refused any more, 30 got a 503"]
        );
    }

    #[test]
    fn a_spike_between_two_looks_is_told_whole() {
        let mut story = Story::default();
        story.go_on(at(5), &[event("above_guideline", 101, 100)], &[zone("a", 60, 0)]);
        assert_eq!(story.entries.len(), 2);
    }
}
