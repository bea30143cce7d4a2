//! A zone's numbers as cells of a table: the same columns, words and colours wherever zones are listed.

use weir_agent::ZoneRecord;

use crate::{table::Align, text::Style};

/// The columns of [`cells`].
pub const COLUMNS: [(&str, Align); 7] = [
    ("zone", Align::Left),
    ("plan", Align::Left),
    ("live", Align::Right),
    ("peak", Align::Right),
    ("guideline", Align::Right),
    ("cap", Align::Right),
    ("refused", Align::Right),
];

/// One zone. `peak` is one of its peaks.
pub fn cells(zone: &ZoneRecord, peak: u64) -> Vec<(Style, String)> {
    let live = match zone.websockets {
        0 => Style::Faint,
        live if live >= zone.abuse_cap => Style::Bad,
        _ => Style::Strong,
    };
    let guideline = if zone.websockets > zone.guideline { Style::Warn } else { Style::Plain };
    let refused = if zone.refused_total > 0 { Style::Bad } else { Style::Faint };
    vec![
        (Style::Plain, zone.zone.clone()),
        (Style::Faint, zone.plan.clone()),
        (live, zone.websockets.to_string()),
        (Style::Plain, peak.to_string()),
        (guideline, of_guideline(zone)),
        (Style::Faint, zone.abuse_cap.to_string()),
        (refused, zone.refused_total.to_string()),
    ]
}

/// `60% of 300`. Rounded down, so that 100% is the guideline and nothing less.
fn of_guideline(zone: &ZoneRecord) -> String {
    let percent = (u128::from(zone.websockets) * 100).checked_div(u128::from(zone.guideline)).unwrap_or(0);
    format!("{percent}% of {}", zone.guideline)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A zone with these numbers and guideline 100, cap 1000.
    pub fn zone(name: &str, live: u64, refused: u64) -> ZoneRecord {
        ZoneRecord {
            zone: name.to_owned(),
            plan: "pro".to_owned(),
            state: "configured".to_owned(),
            websockets: live,
            websockets_peak_recent: live + 1,
            websockets_peak: live + 2,
            sockets: live,
            guideline: 100,
            abuse_cap: 1000,
            guideline_ratio: live as f64 / 100.0,
            slot: 1,
            mark: None,
            websocket_mark: None,
            admitted_total: live + 5,
            refused_total: refused,
            refused: Default::default(),
            closed: Default::default(),
            received_bytes_total: 0,
            sent_bytes_total: 0,
            held: None,
        }
    }

    #[test]
    fn just_below_the_guideline_is_not_a_hundred_percent() {
        let mut record = zone("a", 999, 0);
        record.guideline = 1000;
        assert_eq!(of_guideline(&record), "99% of 1000");
        record.websockets = 1000;
        assert_eq!(of_guideline(&record), "100% of 1000");
    }

    #[test]
    fn the_guideline_warns_and_only_the_cap_alarms() {
        let styles = |live, refused| -> Vec<_> {
            cells(&zone("a", live, refused), live).into_iter().map(|(style, _)| style).collect()
        };
        assert_eq!(styles(100, 0)[4], Style::Plain);
        assert_eq!(styles(101, 0)[4], Style::Warn);
        assert_eq!(styles(101, 0)[2], Style::Strong);
        assert_eq!((styles(1000, 3)[2], styles(1000, 3)[6]), (Style::Bad, Style::Bad));
    }
}
