//! Marks: the numbers by which another proxy says, with `SO_MARK`, which zone a socket is of. See `weir_common::mark`.
//!
//! A zone's number is the one that its configuration gives it, or else one of its name. There are fewer numbers than names, so two
//! zones may come to the same one: then neither has it, and each tries its next ([`TURNS`]). So numbers depend on no order and no
//! memory, and are the same on every host that has the same zones.
//!
//! The files of other proxies may be older than the configuration. A number that a zone has tried is never given to another while
//! both are configured, so by such a file a socket is counted for the zone that was meant, or for none. (As zones are added a zone
//! only ever tries more numbers: what it had is among them.) A zone for which no number is left has none, which is an alarm, and
//! keeps no other zone from anything.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use weir_common::{
    mark::{TURNS, number_of, websocket_flag},
    zone::ZoneKey,
};
use weir_config::{MarkRange, Zone};

/// The configuration gives two zones one number.
#[derive(Debug, thiserror::Error)]
#[error(
    "zones `{first}` and `{second}` have the same number {number} in marks: give one of them another with `mark = ...`"
)]
pub struct MarkCollision {
    pub first: String,
    pub second: String,
    pub number: u32,
}

/// A zone's two marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneMarks {
    pub socket: u32,
    pub websocket: u32,
}

/// The numbers of all zones.
pub struct Marks {
    range: MarkRange,
    by_number: HashMap<u32, Arc<str>>,
    by_zone: HashMap<Arc<str>, u32>,
    unmarked: Vec<Arc<str>>,
}

/// Who wants a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    By(usize),
    BySeveral,
}

impl Marks {
    /// # Errors
    /// If the configuration gives two zones the same number.
    pub fn new(range: MarkRange, zones: &[Arc<Zone>]) -> Result<Self, MarkCollision> {
        let mut marks =
            Self { range, by_number: HashMap::new(), by_zone: HashMap::new(), unmarked: Vec::new() };
        for zone in zones {
            let Some(number) = zone.mark else { continue };
            let name: Arc<str> = zone.name.as_str().into();
            if let Some(first) = marks.by_number.insert(number, Arc::clone(&name)) {
                return Err(MarkCollision { first: first.to_string(), second: name.to_string(), number });
            }
            marks.by_zone.insert(name, number);
        }
        let unnumbered: Vec<&Arc<Zone>> = zones.iter().filter(|zone| zone.mark.is_none()).collect();
        let keys: Vec<ZoneKey> = unnumbered.iter().map(|zone| ZoneKey::of(zone.name.as_str())).collect();
        for (zone, number) in unnumbered.iter().zip(marks.numbers(&keys)) {
            let name: Arc<str> = zone.name.as_str().into();
            match number {
                Some(number) => {
                    marks.by_number.insert(number, Arc::clone(&name));
                    marks.by_zone.insert(name, number);
                }
                None => marks.unmarked.push(name),
            }
        }
        Ok(marks)
    }

    /// The first number of each key that no other key has wanted, nor the configuration has given.
    fn numbers(&self, keys: &[ZoneKey]) -> Vec<Option<u32>> {
        let number = |zone: usize, turn| number_of(keys[zone], self.range.mask, turn);
        let mut wanted: HashMap<u32, Wanted> =
            self.by_number.keys().map(|number| (*number, Wanted::BySeveral)).collect();
        let mut turns = vec![0; keys.len()];
        let mut trying: Vec<usize> = (0..keys.len()).collect();
        while !trying.is_empty() {
            for zone in trying {
                match wanted.entry(number(zone, turns[zone])) {
                    Entry::Vacant(free) => {
                        free.insert(Wanted::By(zone));
                    }
                    Entry::Occupied(taken) if *taken.get() == Wanted::By(zone) => {}
                    Entry::Occupied(mut taken) => {
                        taken.insert(Wanted::BySeveral);
                    }
                }
            }
            // Also of those that had theirs: another may want it now.
            let has_none = |zone: &usize| {
                turns[*zone] < TURNS && wanted.get(&number(*zone, turns[*zone])) != Some(&Wanted::By(*zone))
            };
            let next: Vec<usize> = (0..keys.len()).filter(has_none).collect();
            next.iter().for_each(|zone| turns[*zone] += 1);
            trying = next.into_iter().filter(|zone| turns[*zone] < TURNS).collect();
        }
        turns.iter().enumerate().map(|(zone, turn)| (*turn < TURNS).then(|| number(zone, *turn))).collect()
    }

    /// What a zone is marked by.
    pub fn of(&self, zone: &str) -> Option<ZoneMarks> {
        let socket = self.range.base | *self.by_zone.get(zone)?;
        Some(ZoneMarks { socket, websocket: socket | websocket_flag(self.range.mask) })
    }

    /// Every number with the key of its zone.
    pub fn keys(&self) -> HashMap<u32, ZoneKey> {
        self.by_number.iter().map(|(number, zone)| (*number, ZoneKey::of(zone))).collect()
    }

    /// Zones for which no number is left.
    pub fn unmarked(&self) -> &[Arc<str>] {
        &self.unmarked
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use weir_config::Config;

    use super::*;

    fn zones<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Arc<Zone>> {
        let mut toml = "[proxy]\nhttp = [\"127.0.0.1:80\"]\n[plans.p]\nguideline = 1\n".to_owned();
        for name in names {
            let (name, mark) = name.split_once('=').unwrap_or((name, ""));
            let mark = if mark.is_empty() { String::new() } else { format!("mark = {mark}\n") };
            toml +=
                &format!("[[zones]]\nname = \"{name}\"\nplan = \"p\"\norigin = \"ws://127.0.0.1:1\"\n{mark}");
        }
        Config::parse(&toml, Path::new("/")).unwrap().zones
    }

    fn range(mask: u32) -> MarkRange {
        MarkRange { mask, base: 0x5700_0000 }
    }

    fn numbers(mask: u32, names: &[String]) -> BTreeMap<String, Option<u32>> {
        let marks = Marks::new(range(mask), &zones(names.iter().map(String::as_str))).unwrap();
        names.iter().map(|name| (name.clone(), marks.of(name).map(|marks| marks.socket))).collect()
    }

    /// Two names that have one number in their first turn.
    fn pair(mask: u32) -> [String; 2] {
        let mut seen = HashMap::new();
        for n in 0.. {
            let name = format!("z{n}.test");
            if let Some(first) = seen.insert(number_of(ZoneKey::of(&name), mask, 0), name.clone()) {
                return [first, name];
            }
        }
        unreachable!("there are fewer numbers than names")
    }

    #[test]
    fn a_chosen_name_takes_no_zones_number_and_stops_nothing() {
        let mask = 0xff00_0000;
        let [victim, chosen] = pair(mask);
        let alone = numbers(mask, &[victim.clone(), "other.test".to_owned()]);
        let both = numbers(mask, &[victim.clone(), "other.test".to_owned(), chosen.clone()]);
        let turned = numbers(mask, &[chosen.clone(), "other.test".to_owned(), victim.clone()]);
        assert_eq!(both, turned, "whatever the order");
        assert_eq!(both["other.test"], alone["other.test"]);
        assert!(both.values().all(Option::is_some), "{both:?}");
        let old = alone[&victim];
        assert!(both.values().all(|number| *number != old), "an old map names nobody by it: {both:?}");
    }

    #[test]
    fn what_an_old_map_says_of_a_zone_is_true_or_nothing() {
        // So few numbers that zones meet all the time.
        let mask = 0xffff_f000;
        let names: Vec<String> = (0..400).map(|n| format!("zone-{n}.test")).collect();
        let now = numbers(mask, &names);
        assert!(now.values().filter(|number| number.is_some()).count() > 350, "most have one");
        for had in [1, 50, 200, 399] {
            for (zone, number) in numbers(mask, &names[..had]) {
                let found = now.iter().find(|(_, now)| number.is_some() && **now == number);
                assert!(found.is_none_or(|(name, _)| *name == zone), "{zone} of {had}: {found:?}");
            }
        }
    }

    #[test]
    fn zones_without_a_number_are_told_and_keep_no_other_from_having_one() {
        let names: Vec<String> = (0..3000).map(|n| format!("zone-{n}.test")).collect();
        let mask = 0xffff_f000;
        let given = ["mine.test=7".to_owned()];
        let all: Vec<&str> = names.iter().chain(&given).map(String::as_str).collect();
        let marks = Marks::new(range(mask), &zones(all)).unwrap();
        assert!(!marks.unmarked().is_empty());
        assert_eq!(marks.of("mine.test").unwrap().socket, 0x5700_0007, "whoever else would want it");
        assert_eq!(marks.unmarked().len() + marks.keys().len(), 3001);
        assert!(marks.unmarked().iter().all(|zone| marks.of(zone).is_none()));
    }

    #[test]
    fn a_number_that_is_given_twice_is_refused() {
        let error = Marks::new(range(0xff00_0000), &zones(["a.test=7", "b.test=7"])).err().unwrap();
        assert_eq!((error.number, error.first.as_str()), (7, "a.test"));
    }

    #[test]
    fn a_hundred_thousand_zones_have_a_number_each() {
        let mask = 0xff00_0000;
        let marks = Marks {
            range: range(mask),
            by_number: HashMap::new(),
            by_zone: HashMap::new(),
            unmarked: Vec::new(),
        };
        let keys: Vec<ZoneKey> = (0..100_000).map(|n| ZoneKey::of(&format!("zone-{n}.test"))).collect();
        let numbers: std::collections::HashSet<u32> =
            marks.numbers(&keys).into_iter().map(|number| number.expect("a number")).collect();
        assert_eq!(numbers.len(), keys.len());
    }
}
