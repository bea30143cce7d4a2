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
    let cap = zone.lease_cap.map_or(zone.abuse_cap, |lease| lease.min(zone.abuse_cap));
    let live = match zone.websockets {
        0 => Style::Faint,
        live if live >= cap => Style::Bad,
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
        in_force(zone, cap),
        (refused, zone.refused_total.to_string()),
    ]
}

/// The cap that holds now, and how: the plan's, a lease's, or none at all may come in.
fn in_force(zone: &ZoneRecord, cap: u64) -> (Style, String) {
    match (zone.blocked, zone.lease_cap) {
        (true, _) => (Style::Bad, "blocked".to_owned()),
        (false, Some(_)) => (Style::Warn, format!("{cap} for now")),
        (false, None) => (Style::Faint, cap.to_string()),
    }
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
            blocked: false,
            lease_cap: None,
            guideline_ratio: live as f64 / 100.0,
            slot: 1,
            mark: None,
            websocket_mark: None,
            admitted_total: live + 5,
            declined_total: 0,
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
    fn a_block_and_a_lease_stand_where_the_cap_is() {
        let cap = |blocked, lease_cap| {
            let record = ZoneRecord { blocked, lease_cap, ..zone("a", 10, 0) };
            let cells = cells(&record, 10);
            (cells[2].0, cells[5].0, cells[5].1.clone())
        };
        assert_eq!(cap(false, None), (Style::Strong, Style::Faint, "1000".to_owned()));
        assert_eq!(cap(false, Some(10)), (Style::Bad, Style::Warn, "10 for now".to_owned()));
        assert_eq!(cap(true, Some(10)).2, "blocked");
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
