//! The comparison at the end: what the kernel counted against what those saw whom it counted.
//!
//! It is exact, to the unit, and therefore made when nobody comes or goes.

use std::collections::HashMap;

use weir_agent::ZoneRecord;

use crate::{
    demo::{kernel::Audit, scenario::GUEST},
    table::{Align, Table},
    text::{Line, Style},
};

/// What a zone's clients saw. Of clients that are not the demo's own only the origin's side is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Upgrades that were answered 101.
    pub admitted: u64,
    /// Upgrades that were answered 503.
    pub refused: Option<u64>,
    /// Open WebSockets now.
    pub open: u64,
    /// The most that were open at a time.
    pub most_open: u64,
}

/// What of a zone does not agree, each in words; nothing if all does.
pub fn disagreements(kernel: &ZoneRecord, witness: &Witness) -> Vec<String> {
    let mut found = Vec::new();
    let mut same = |what: &str, kernel: u64, seen: u64| {
        if kernel != seen {
            found.push(format!("{what}: the kernel counts {kernel}, the clients {seen}"));
        }
    };
    same("admitted", kernel.admitted_total, witness.admitted);
    if let Some(refused) = witness.refused {
        same("refused", kernel.refused_total, refused);
    }
    same("live", kernel.websockets, witness.open);
    let peak = kernel.websockets_peak;
    if peak > kernel.abuse_cap {
        found.push(format!("peak {peak} is above the abuse cap {}", kernel.abuse_cap));
    }
    if peak < witness.most_open {
        found.push(format!("peak {peak} is below the {} that the clients had open", witness.most_open));
    }
    found
}

/// True if every zone that has a witness is there and agrees with it.
pub fn all_agree(zones: &[ZoneRecord], witnesses: &HashMap<&str, Witness>) -> bool {
    let agrees = |(name, witness): (&&str, &Witness)| {
        let zone = zones.iter().find(|zone| zone.zone == **name);
        zone.is_some_and(|zone| disagreements(zone, witness).is_empty())
    };
    witnesses.iter().all(agrees)
}

/// Everything that is known at the end.
pub struct Verdict {
    /// In the order of the cast.
    pub zones: Vec<ZoneRecord>,
    pub witnesses: HashMap<&'static str, Witness>,
    /// The audit of the quiet time; nothing if it did not come.
    pub audit: Option<Audit>,
    /// WebSockets that the kernel still counts after the clients have gone.
    pub left: u64,
    /// What went wrong for clients, each with its zone.
    pub failures: Vec<String>,
    /// What agent and proxy warn of.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// True if all numbers agree, nothing is left, and every client got what it should.
    pub fn holds(&self) -> bool {
        all_agree(&self.zones, &self.witnesses)
            && self.drift() == Some(0)
            && self.left == 0
            && self.failures.is_empty()
    }

    fn drift(&self) -> Option<u64> {
        self.audit.map(|audit| audit.drift + audit.untracked)
    }

    /// The summary for people.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = vec![
            Line::new(
                Style::Strong,
                "the kernel counts: admitted, refused, live; its clients saw: 101s, 503s, open",
            ),
            Line::default(),
        ];
        lines.extend(self.table());
        lines.push(Line::default());
        lines.extend(self.complaints());
        lines.push(self.audit_line());
        lines.push(match self.left {
            0 => Line::new(
                Style::Plain,
                "closed: all clients have left, and the kernel counts 0 live WebSockets",
            ),
            left => Line::new(Style::Bad, format!("closed: the kernel still counts {left} WebSockets")),
        });
        lines.push(self.result());
        lines
    }

    fn table(&self) -> Vec<Line> {
        let right = |title| (title, Align::Right);
        let mut table = Table::new([
            ("zone", Align::Left),
            right("admitted"),
            right("101s"),
            right("refused"),
            right("503s"),
            right("live"),
            right("open"),
            right("peak"),
            right("cap"),
            ("", Align::Left),
        ]);
        for zone in &self.zones {
            let witness = self.witnesses.get(zone.zone.as_str());
            let seen = |number: fn(&Witness) -> Option<u64>| {
                (Style::Accent, witness.and_then(number).map_or_else(|| "-".to_owned(), |n| n.to_string()))
            };
            let kernel = |number: u64| (Style::Plain, number.to_string());
            let agrees = match witness {
                Some(witness) if disagreements(zone, witness).is_empty() => (Style::Good, "agrees"),
                Some(_) => (Style::Bad, "DIFFERS"),
                None => (Style::Faint, "not ours"),
            };
            table.push(vec![
                (Style::Plain, zone.zone.clone()),
                kernel(zone.admitted_total),
                seen(|witness| Some(witness.admitted)),
                kernel(zone.refused_total),
                seen(|witness| witness.refused),
                kernel(zone.websockets),
                seen(|witness| Some(witness.open)),
                kernel(zone.websockets_peak),
                (Style::Faint, zone.abuse_cap.to_string()),
                (agrees.0, agrees.1.to_owned()),
            ]);
        }
        table.lines()
    }

    fn complaints(&self) -> Vec<Line> {
        let mut bad: Vec<String> = self.failures.clone();
        let mut strangers = false;
        for (name, witness) in &self.witnesses {
            let Some(zone) = self.zones.iter().find(|zone| zone.zone == *name) else {
                bad.push(format!("{name}: the kernel has no such zone"));
                continue;
            };
            bad.extend(disagreements(zone, witness).into_iter().map(|what| format!("{name}: {what}")));
            strangers |= zone.admitted_total > witness.admitted;
        }
        bad.sort_unstable();
        let mut lines: Vec<_> = bad.into_iter().map(|text| Line::new(Style::Bad, text)).collect();
        if strangers {
            let text = format!("(clients of your own are expected in {GUEST} alone)");
            lines.push(Line::new(Style::Plain, text));
        }
        lines.extend(self.warnings.iter().map(|text| Line::new(Style::Warn, text)));
        lines
    }

    fn audit_line(&self) -> Line {
        match self.audit {
            None => Line::new(Style::Bad, "audit: none came while the clients held still"),
            Some(audit) => {
                let drift = self.drift().unwrap_or_default();
                let style = if drift == 0 { Style::Plain } else { Style::Bad };
                let sockets = audit.sockets;
                Line::new(
                    style,
                    format!("audit: drift {drift}, against {sockets} sockets in the kernel's own list"),
                )
            }
        }
    }

    /// The last line, for people and scripts.
    fn result(&self) -> Line {
        let agreeing = self.zones.iter().filter(|zone| {
            self.witnesses
                .get(zone.zone.as_str())
                .is_some_and(|witness| disagreements(zone, witness).is_empty())
        });
        let (agreeing, all) = (agreeing.count(), self.witnesses.len());
        let but = if !self.holds() && agreeing == all { ", but see above" } else { "" };
        let style = if self.holds() { Style::Good } else { Style::Bad };
        Line::new(style, format!("checked: {agreeing} of {all} zones agree{but}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{text::to_text, zone_cells::tests::zone};

    /// What the clients of `zone("a", 10, 3)` saw.
    const SEEN: Witness = Witness { admitted: 15, refused: Some(3), open: 10, most_open: 12 };

    fn verdict() -> Verdict {
        Verdict {
            zones: vec![zone("a", 10, 3)],
            witnesses: HashMap::from([("a", SEEN)]),
            audit: Some(Audit { sockets: 10, untracked: 0, drift: 0 }),
            left: 0,
            failures: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn last_line(verdict: &Verdict) -> String {
        verdict.lines().pop().unwrap().render(false)
    }

    #[test]
    fn numbers_that_agree_to_the_unit_hold() {
        let verdict = verdict();
        assert!(verdict.holds());
        assert_eq!(last_line(&verdict), "checked: 1 of 1 zones agree");
    }

    #[test]
    fn one_off_by_one_does_not_agree() {
        let zone = zone("a", 10, 3);
        for (what, witness) in [
            ("admitted", Witness { admitted: 16, ..SEEN }),
            ("refused", Witness { refused: Some(2), ..SEEN }),
            ("live", Witness { open: 9, ..SEEN }),
            ("peak", Witness { most_open: 13, ..SEEN }),
        ] {
            let found = disagreements(&zone, &witness);
            assert!(found.len() == 1 && found[0].starts_with(what), "{what}: {found:?}");
        }
        let mut above = zone;
        above.websockets_peak = above.abuse_cap + 1;
        assert!(disagreements(&above, &SEEN)[0].contains("above the abuse cap"));
    }

    #[test]
    fn any_difference_is_named_and_fails_the_demo() {
        let mut differing = verdict();
        differing.witnesses.insert("a", Witness { open: 9, ..SEEN });
        assert!(!differing.holds());
        let text = to_text(&differing.lines(), false);
        assert!(text.contains("a: live: the kernel counts 10, the clients 9"), "{text}");
        assert!(text.ends_with("checked: 0 of 1 zones agree\n"), "{text}");

        let audit = Some(Audit { sockets: 10, untracked: 0, drift: 1 });
        assert!(!Verdict { audit, ..verdict() }.holds());
        assert!(!Verdict { audit: None, ..verdict() }.holds());
        assert!(!Verdict { left: 1, ..verdict() }.holds());
        assert!(!Verdict { zones: Vec::new(), ..verdict() }.holds());

        let failed = Verdict { failures: vec!["a: a tunnel broke".to_owned()], ..verdict() };
        assert!(!failed.holds());
        assert_eq!(last_line(&failed), "checked: 1 of 1 zones agree, but see above");
        assert!(Verdict { warnings: vec!["proxy: slow".to_owned()], ..verdict() }.holds());
    }

    #[test]
    fn what_no_client_of_ours_saw_is_not_compared() {
        let witness = Witness { refused: None, ..SEEN };
        assert!(disagreements(&zone("a", 10, 99), &witness).is_empty());
    }
}
