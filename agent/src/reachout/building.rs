//! The slot under way: the kernel's counts, each held until the next look.
//!
//! A count holds until the next look if that comes within [`HOLDS`]; after a longer gap only for a second, and the rest is
//! unknown. So an agent that is started anew at once loses nothing, as what it had is kept ([`Building::encode`]), and one that was
//! away leaves a gap, never a zero. A clock that goes back adds nothing: a slot is at most 5 minutes long.

use time::{Duration, OffsetDateTime};
use weir_reachout::slot::{Slot, SlotIndex};

use crate::ledger::{unvarint, varint};

/// The longest time between two looks in which the count is taken for known.
const HOLDS: Duration = Duration::seconds(15);
const SLOT_MS: u32 = 300_000;

/// What is known of each zone, by its number, in the running slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Building {
    index: SlotIndex,
    last: Option<OffsetDateTime>,
    accounts: Vec<Account>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    held_ms: u32,
    /// Count times milliseconds.
    area: u64,
    max: u64,
    /// The count at the last look, if the zone was there.
    live: Option<u64>,
}

/// A slot that is over: by a zone's number what was seen of it, if anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    pub index: SlotIndex,
    pub zones: Vec<Option<Slot>>,
}

impl Building {
    pub fn new() -> Self {
        Self { index: SlotIndex::EPOCH, last: None, accounts: Vec::new() }
    }

    /// The slot under way.
    pub fn index(&self) -> SlotIndex {
        self.index
    }

    /// When was last looked.
    pub fn last(&self) -> Option<OffsetDateTime> {
        self.last
    }

    /// Takes a look at `now`: of each zone its number, live WebSockets, and the highest count since the look before.
    pub fn look(
        &mut self,
        now: OffsetDateTime,
        counts: impl IntoIterator<Item = (u32, u64, u64)>,
    ) -> Option<Closed> {
        let slot = SlotIndex::containing(now);
        if slot < self.index {
            // The clock went back into a slot that is judged: nothing is taken until it is here again.
            return None;
        }
        let closed = self.go_on(now, slot);
        self.accounts.iter_mut().for_each(|account| account.live = None);
        for (zone, live, peak) in counts {
            let account = self.account(zone);
            account.live = Some(live);
            account.max = account.max.max(peak).max(live);
        }
        self.last = Some(now);
        closed
    }

    fn go_on(&mut self, now: OffsetDateTime, slot: SlotIndex) -> Option<Closed> {
        let Some(last) = self.last else {
            self.index = slot;
            return None;
        };
        if now > last {
            let until = if now - last <= HOLDS { now } else { last + Duration::SECOND };
            let end = self.index.end();
            self.hold(until.min(end) - last);
            if now >= end {
                let closed = self.close(slot);
                if until > slot.start() {
                    self.hold(until - slot.start());
                }
                return Some(closed);
            }
        }
        None
    }

    fn hold(&mut self, time: Duration) {
        let ms = u32::try_from(time.whole_milliseconds()).unwrap_or(0);
        for account in &mut self.accounts {
            let Some(live) = account.live else { continue };
            let ms = ms.min(SLOT_MS - account.held_ms);
            account.held_ms += ms;
            account.area = account.area.saturating_add(live.saturating_mul(ms.into()));
        }
    }

    fn close(&mut self, next: SlotIndex) -> Closed {
        let index = std::mem::replace(&mut self.index, next);
        let slot = |account: &mut Account| {
            let seen = std::mem::replace(account, Account { live: account.live, ..Account::default() });
            account.max = account.live.unwrap_or(0);
            let length = f64::from(SLOT_MS);
            (seen.held_ms > 0).then(|| Slot {
                index,
                value: seen.area as f64 / length,
                max: seen.max as f64,
                complete: f64::from(seen.held_ms) / length,
            })
        };
        Closed { index, zones: self.accounts.iter_mut().map(slot).collect() }
    }

    fn account(&mut self, zone: u32) -> &mut Account {
        let place = zone as usize;
        if self.accounts.len() <= place {
            self.accounts.resize(place + 1, Account::default());
        }
        &mut self.accounts[place]
    }

    /// As bytes: zones that are alike share a run.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let last = self.last.map_or(0, |last| last.unix_timestamp_nanos() / 1_000_000);
        varint(&mut bytes, self.index.number().into());
        varint(&mut bytes, u64::try_from(last).unwrap_or(0));
        for run in self.accounts.chunk_by(|a, b| a == b) {
            let Account { held_ms, area, max, live } = run[0];
            let live = live.map_or(0, |live| live.saturating_add(1));
            for number in [run.len() as u64, held_ms.into(), area, max, live] {
                varint(&mut bytes, number);
            }
        }
        bytes
    }

    /// What [`Building::encode`] wrote; nothing of bytes that are none of it.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let index = SlotIndex::of_number(u32::try_from(unvarint(rest).ok()?).ok()?);
        let last = i128::from(unvarint(rest).ok()?) * 1_000_000;
        let last = (last > 0).then(|| OffsetDateTime::from_unix_timestamp_nanos(last).ok()).flatten();
        let mut accounts = Vec::new();
        while !rest.is_empty() {
            let mut next = || unvarint(rest).ok();
            let (run, held_ms, area, max, live) = (next()?, next()?, next()?, next()?, next()?);
            let held_ms = u32::try_from(held_ms).ok().filter(|ms| *ms <= SLOT_MS)?;
            let run = usize::try_from(run).ok().filter(|run| *run <= 1 << 24)?;
            let account = Account { held_ms, area, max, live: live.checked_sub(1) };
            accounts.resize(accounts.len() + run, account);
        }
        Some(Self { index, last, accounts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = time::macros::datetime!(2026-03-01 00:00 UTC);

    fn at(seconds: f64) -> OffsetDateTime {
        START + Duration::seconds_f64(seconds)
    }

    /// Looks once a second from second `from` to `to` at these counts of zone 0.
    fn looks(building: &mut Building, from: u32, to: u32, live: impl Fn(u32) -> u64) -> Vec<Closed> {
        let look = |second| building.look(at(f64::from(second)), [(0, live(second), live(second))]);
        (from..=to).filter_map(look).collect()
    }

    fn only(closed: &[Closed]) -> Slot {
        assert_eq!(closed.len(), 1);
        closed[0].zones[0].unwrap()
    }

    #[test]
    fn a_slot_is_the_mean_over_its_time_and_its_maximum() {
        let mut building = Building::new();
        let slot = only(&looks(&mut building, 0, 300, |second| if second < 100 { 30 } else { 60 }));
        assert_eq!((slot.value, slot.max, slot.complete), (50.0, 60.0, 1.0));
        assert_eq!(slot.index, SlotIndex::containing(START));
    }

    #[test]
    fn a_peak_between_two_looks_is_in_the_maximum() {
        let mut building = Building::new();
        building.look(at(0.0), [(0, 5, 5)]);
        building.look(at(1.0), [(0, 5, 700)]);
        let closed = looks(&mut building, 2, 300, |_| 5);
        assert_eq!((only(&closed).max, only(&closed).value), (700.0, 5.0));
    }

    #[test]
    fn a_restart_goes_on_where_it_was_and_a_gap_is_unknown_not_zero() {
        let mut building = Building::new();
        looks(&mut building, 0, 100, |_| 60);
        // Kept, killed, and started again after 10 s: known all the time.
        let kept = Building::decode(&building.encode()).unwrap();
        assert_eq!(kept, building);
        let mut soon = kept.clone();
        assert_eq!(only(&looks(&mut soon, 110, 300, |_| 60)).complete, 1.0);
        // After 100 s: the gap is missing, and adds nothing to the mean.
        let mut late = kept;
        let slot = only(&looks(&mut late, 200, 300, |_| 60));
        assert!((slot.complete - 201.0 / 300.0).abs() < 1e-9, "{slot:?}");
        assert!((slot.value - 60.0 * 201.0 / 300.0).abs() < 1e-9, "{slot:?}");
    }

    #[test]
    fn an_outage_over_slots_leaves_them_out() {
        let mut building = Building::new();
        looks(&mut building, 0, 290, |_| 60);
        let closed = looks(&mut building, 1000, 1200, |_| 60);
        let indexes: Vec<u32> = closed.iter().map(|c| c.index.since(SlotIndex::containing(START))).collect();
        assert_eq!(indexes, [0, 3]);
        assert!(!closed[0].zones[0].unwrap().is_complete() && !closed[1].zones[0].unwrap().is_complete());
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_slot_longer_and_judges_none_twice() {
        let mut building = Building::new();
        looks(&mut building, 0, 200, |_| 60);
        looks(&mut building, 100, 200, |_| 60);
        let slot = only(&looks(&mut building, 201, 300, |_| 60));
        assert_eq!((slot.complete, slot.value), (1.0, 60.0));
        assert!(looks(&mut building, 10, 299, |_| 60).is_empty(), "back in a judged slot");
        assert_eq!(building.index, SlotIndex::containing(at(300.0)));
    }

    #[test]
    fn a_zone_that_comes_or_goes_is_known_for_its_time() {
        let mut building = Building::new();
        for second in 0..=300 {
            let come = (second >= 150).then_some((1, 10, 10));
            let counts = [(0, 60, 60)].into_iter().filter(|_| second <= 30).chain(come);
            if let Some(closed) = building.look(at(f64::from(second)), counts) {
                assert!((closed.zones[0].unwrap().complete - 0.1).abs() < 0.01);
                assert_eq!(closed.zones[1].unwrap().complete, 0.5);
            }
        }
    }

    #[test]
    fn bytes_of_something_else_are_nothing() {
        assert_eq!(Building::decode(&[]), None);
        assert_eq!(Building::decode(&[0x80, 0x80]), None);
        assert_eq!(Building::decode(&[1, 1, 1, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0]), None);
    }
}
