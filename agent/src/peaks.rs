//! High-water marks, handed to several readers.
//!
//! The kernel keeps one mark a slot. [`Peaks::look`] takes all marks, and each reader keeps the highest of what was taken
//! since it last asked, so no reader hides a spike from another: two Prometheus servers each see every spike once.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::kernel::ZoneMemory;

/// Scrapers that are remembered; the one that asked longest ago makes room.
const SCRAPERS: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);

/// The marks of all slots, for every reader.
pub struct Peaks {
    /// Highest since the agent started.
    all_time: Vec<u64>,
    /// Highest of the running minute, and of the one before.
    minute: Vec<u64>,
    last_minute: Vec<u64>,
    minute_began: Instant,
    /// Highest since the policy looked.
    policy: Vec<u64>,
    scrapers: HashMap<ScraperId, Scraper>,
}

/// Who scrapes, as far as a request tells: its address and what it calls itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScraperId(String);

impl ScraperId {
    /// `agent` is cut: whoever sends long ones gets no more of our memory for it.
    pub fn new(address: IpAddr, agent: &str) -> Self {
        const LONGEST: usize = 64;
        let agent: String = agent.chars().take(LONGEST).collect();
        Self(format!("{address} {agent}"))
    }
}

struct Scraper {
    asked: Instant,
    highest: Vec<u64>,
}

impl Peaks {
    pub fn new(slots: u32, now: Instant) -> Self {
        let zeros = || vec![0; slots as usize];
        Self {
            all_time: zeros(),
            minute: zeros(),
            last_minute: zeros(),
            minute_began: now,
            policy: zeros(),
            scrapers: HashMap::new(),
        }
    }

    /// Takes the kernel's marks of the given slots.
    pub fn look(&mut self, memory: &ZoneMemory, slots: impl Iterator<Item = u32>, now: Instant) {
        self.turn(now);
        for slot in slots {
            self.note(slot, memory.take_peak(slot));
        }
    }

    fn note(&mut self, slot: u32, peak: u64) {
        let raise = |marks: &mut Vec<u64>| {
            if let Some(mark) = marks.get_mut(slot as usize) {
                *mark = peak.max(*mark);
            }
        };
        raise(&mut self.all_time);
        raise(&mut self.minute);
        raise(&mut self.policy);
        self.scrapers.values_mut().for_each(|scraper| raise(&mut scraper.highest));
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.minute_began);
        if age < MINUTE {
            return;
        }
        std::mem::swap(&mut self.minute, &mut self.last_minute);
        self.minute.fill(0);
        if age >= 2 * MINUTE {
            self.last_minute.fill(0);
        }
        self.minute_began = now;
    }

    /// The marks since this scraper asked before; for a new one, of the last one to two minutes.
    pub fn since_last_scrape(&mut self, scraper: &ScraperId, now: Instant) -> Vec<u64> {
        let slots = self.minute.len();
        if !self.scrapers.contains_key(scraper) {
            if self.scrapers.len() >= SCRAPERS {
                let oldest =
                    self.scrapers.iter().min_by_key(|(_, known)| known.asked).map(|(id, _)| id.clone());
                oldest.map(|id| self.scrapers.remove(&id));
            }
            let highest = (0..slots as u32).map(|slot| self.recent(slot)).collect();
            self.scrapers.insert(scraper.clone(), Scraper { asked: now, highest });
        }
        match self.scrapers.get_mut(scraper) {
            Some(known) => {
                known.asked = now;
                std::mem::replace(&mut known.highest, vec![0; slots])
            }
            None => vec![0; slots],
        }
    }

    /// Highest since the policy looked before.
    pub fn since_policy_looked(&mut self, slot: u32) -> u64 {
        self.policy.get_mut(slot as usize).map_or(0, std::mem::take)
    }

    /// Highest of the last one to two minutes.
    pub fn recent(&self, slot: u32) -> u64 {
        let at = |marks: &[u64]| marks.get(slot as usize).copied().unwrap_or(0);
        at(&self.minute).max(at(&self.last_minute))
    }

    /// Highest since the agent started.
    pub fn all_time(&self, slot: u32) -> u64 {
        self.all_time.get(slot as usize).copied().unwrap_or(0)
    }

    /// The slot is another zone's from now on.
    pub fn forget(&mut self, slot: u32) {
        let clear = |marks: &mut Vec<u64>| {
            if let Some(mark) = marks.get_mut(slot as usize) {
                *mark = 0;
            }
        };
        clear(&mut self.all_time);
        clear(&mut self.minute);
        clear(&mut self.last_minute);
        clear(&mut self.policy);
        self.scrapers.values_mut().for_each(|scraper| clear(&mut scraper.highest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scraper(last: u8, agent: &str) -> ScraperId {
        ScraperId::new(IpAddr::from([192, 0, 2, last]), agent)
    }

    #[test]
    fn each_scraper_sees_each_spike_once() {
        let now = Instant::now();
        let mut peaks = Peaks::new(2, now);
        // Behind one address: Prometheus, and somebody who looks.
        let (a, b) = (scraper(1, "Prometheus/2.42.0"), scraper(1, "curl/7.88.1"));
        peaks.since_last_scrape(&a, now);
        peaks.since_last_scrape(&b, now);
        peaks.note(1, 70);
        peaks.note(1, 3);
        assert_eq!(peaks.since_last_scrape(&a, now), [0, 70]);
        peaks.note(1, 5);
        assert_eq!(peaks.since_last_scrape(&a, now), [0, 5]);
        assert_eq!(peaks.since_last_scrape(&b, now), [0, 70], "A's scrape hid nothing from B");
    }

    #[test]
    fn a_minutes_peak_is_seen_for_one_to_two_minutes() {
        let start = Instant::now();
        let mut peaks = Peaks::new(1, start);
        peaks.note(0, 9);
        peaks.turn(start + MINUTE);
        assert_eq!(peaks.recent(0), 9);
        peaks.turn(start + 2 * MINUTE);
        assert_eq!(peaks.recent(0), 0);
        assert_eq!(peaks.all_time(0), 9);
    }

    #[test]
    fn scrapers_are_bounded() {
        let now = Instant::now();
        let mut peaks = Peaks::new(1, now);
        for last in 0..100 {
            peaks.since_last_scrape(&scraper(last, ""), now);
        }
        assert_eq!(peaks.scrapers.len(), SCRAPERS);
    }

    #[test]
    fn a_slots_next_zone_inherits_no_peak() {
        let now = Instant::now();
        let mut peaks = Peaks::new(1, now);
        let a = scraper(1, "");
        peaks.since_last_scrape(&a, now);
        peaks.note(0, 9);
        peaks.forget(0);
        assert_eq!(peaks.since_last_scrape(&a, now), [0]);
        assert_eq!((peaks.recent(0), peaks.all_time(0)), (0, 0));
    }
}
