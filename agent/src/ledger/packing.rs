//! Slots as bytes: what 100,000 zones' 30 days cost on the disk.
//!
//! A value is kept as its [`level`], a 32nd of an octave: to about 1 %, which is enough for a plot; a judgement, on which decisions
//! hang, exactly. A slot of many zones ([`Row`]) is runs of zones that are alike. A day of one zone ([`Day`]) is two bit
//! streams: runs of judgements, then runs of equal values as differences in Rice codes that follow the size of what came
//! before. A quiet day is 5 bytes, one that varies by 5 % about 230.

use weir_reachout::slot::{Judgement, Slot, SlotIndex};

/// Slots of a day.
pub const DAY: usize = 288;
/// Levels in an octave.
const LEVELS: f64 = 32.0;

/// A slot of one zone as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// [`Judgement`]'s number.
    pub judgement: u8,
    pub value: u16,
    pub max: u16,
}

/// Bytes that are none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored slots that cannot be read")]
pub struct Garbled;

impl Packed {
    pub fn new(judgement: Judgement, value: f64, max: f64) -> Self {
        let value = level(value);
        Self { judgement: judgement as u8, value, max: level(max).max(value) }
    }

    pub fn judgement(self) -> Judgement {
        Judgement::ALL[usize::from(self.judgement & 3)]
    }

    /// The slot as far as it is kept: complete, if it was known.
    pub fn kept(self, index: SlotIndex) -> Slot {
        let complete = if self.judgement().is_known() { 1.0 } else { 0.0 };
        Slot { index, value: value(self.value), max: value(self.max), complete }
    }
}

/// The level of a count.
pub fn level(value: f64) -> u16 {
    // `as` saturates, and makes 0 of what is no number.
    (LEVELS * (1.0 + value.max(0.0)).log2()).round() as u16
}

/// The count of a level.
pub fn value(level: u16) -> f64 {
    (f64::from(level) / LEVELS).exp2() - 1.0
}

/// One slot of consecutive zones: `(zones, judgement)`, value, and how much higher the maximum was; each a varint.
pub fn pack_row(zones: &[Packed]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in zones.chunk_by(|a, b| a == b) {
        let one = run[0];
        varint(&mut bytes, (run.len() as u64) << 2 | u64::from(one.judgement));
        varint(&mut bytes, one.value.into());
        varint(&mut bytes, (one.max - one.value).into());
    }
    bytes
}

/// Calls `each` with the place of every zone in the row that has something other than nothing.
pub fn unpack_row(bytes: &[u8], mut each: impl FnMut(usize, Packed)) -> Result<(), Garbled> {
    let (mut rest, mut place) = (bytes, 0);
    while !rest.is_empty() {
        let head = unvarint(&mut rest)?;
        let value = u16::try_from(unvarint(&mut rest)?).map_err(|_| Garbled)?;
        let above = u16::try_from(unvarint(&mut rest)?).map_err(|_| Garbled)?;
        let one = Packed { judgement: (head & 3) as u8, value, max: value.saturating_add(above) };
        let run = usize::try_from(head >> 2).map_err(|_| Garbled)?;
        if run > 1 << 20 {
            return Err(Garbled);
        }
        if one != Packed::default() {
            (place..place + run).for_each(|place| each(place, one));
        }
        place += run;
    }
    Ok(())
}

/// A zone's day.
pub fn pack_day(day: &[Packed; DAY]) -> Vec<u8> {
    let mut bits = Bits::default();
    for run in day.chunk_by(|a, b| a.judgement == b.judgement) {
        bits.push(run[0].judgement.into(), 2);
        bits.gamma(run.len() as u32);
    }
    let (mut last, mut differences, mut heights) = (0, Rice::default(), Rice::default());
    for run in day.chunk_by(|a, b| (a.value, a.max) == (b.value, b.max)) {
        bits.gamma(run.len() as u32);
        let difference = i32::from(run[0].value) - last;
        last = i32::from(run[0].value);
        differences.push(&mut bits, ((difference << 1) ^ (difference >> 31)) as u32);
        heights.push(&mut bits, u32::from(run[0].max - run[0].value));
    }
    bits.bytes
}

/// The day of these bytes.
pub fn unpack_day(bytes: &[u8]) -> Result<[Packed; DAY], Garbled> {
    let (mut day, mut reader) = ([Packed::default(); DAY], Reader { bytes, bit: 0 });
    let mut place = 0;
    while place < DAY {
        let judgement = reader.take(2)? as u8;
        let run = reader.gamma()? as usize;
        day.get_mut(place..place + run)
            .ok_or(Garbled)?
            .iter_mut()
            .for_each(|slot| slot.judgement = judgement);
        place += run;
    }
    let (mut last, mut differences, mut heights) = (0_i32, Rice::default(), Rice::default());
    let mut place = 0;
    while place < DAY {
        let run = reader.gamma()? as usize;
        let zigzag = differences.take(&mut reader)?;
        last += (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
        let value = u16::try_from(last).map_err(|_| Garbled)?;
        let max = u16::try_from(last as u32 + heights.take(&mut reader)?).map_err(|_| Garbled)?;
        let slots = day.get_mut(place..place + run).ok_or(Garbled)?;
        slots.iter_mut().for_each(|slot| (slot.value, slot.max) = (value, max));
        place += run;
    }
    Ok(day)
}

/// LEB128.
pub fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub fn unvarint(rest: &mut &[u8]) -> Result<u64, Garbled> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(Garbled)?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Garbled)
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// The lowest `count` bits, the highest of them first.
    fn push(&mut self, bits: u32, count: u32) {
        for n in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((bits >> n & 1) as u8) << (7 - self.used % 8);
            }
            self.used += 1;
        }
    }

    /// Elias' gamma code of 1 and more.
    fn gamma(&mut self, number: u32) {
        let length = 32 - number.leading_zeros();
        self.push(0, length - 1);
        self.push(number, length);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: u32) -> Result<u32, Garbled> {
        let mut bits = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.bit / 8).ok_or(Garbled)?;
            bits = bits << 1 | u32::from(byte >> (7 - self.bit % 8) & 1);
            self.bit += 1;
        }
        Ok(bits)
    }

    fn gamma(&mut self) -> Result<u32, Garbled> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 16 {
                return Err(Garbled);
            }
        }
        Ok(1 << zeros | self.take(zeros)?)
    }
}

/// Rice codes whose length follows the mean of the numbers before.
struct Rice {
    sum: u32,
    count: u32,
}

impl Default for Rice {
    fn default() -> Self {
        Self { sum: 4, count: 1 }
    }
}

/// Quotients from here on are written as a plain number.
const LONGEST: u32 = 20;

impl Rice {
    fn low_bits(&self) -> u32 {
        (0..16).find(|bits| self.count << bits >= self.sum).unwrap_or(16)
    }

    fn learn(&mut self, number: u32) {
        self.sum += number.min(1 << 16);
        self.count += 1;
        if self.count == 32 {
            (self.sum, self.count) = (self.sum / 2, 16);
        }
    }

    fn push(&mut self, bits: &mut Bits, number: u32) {
        let low = self.low_bits();
        let quotient = number >> low;
        if quotient >= LONGEST {
            bits.push((1 << LONGEST) - 1, LONGEST);
            bits.push(number, 20);
        } else {
            bits.push(((1 << quotient) - 1) << 1, quotient + 1);
            bits.push(number, low);
        }
        self.learn(number);
    }

    fn take(&mut self, reader: &mut Reader<'_>) -> Result<u32, Garbled> {
        let low = self.low_bits();
        let mut quotient = 0;
        while quotient < LONGEST && reader.take(1)? == 1 {
            quotient += 1;
        }
        let number =
            if quotient == LONGEST { reader.take(20)? } else { quotient << low | reader.take(low)? };
        self.learn(number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series that is the same in every run: a small linear congruence.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        }
    }

    fn day(value: impl FnMut(usize) -> (Judgement, f64, f64)) -> [Packed; DAY] {
        let mut value = value;
        std::array::from_fn(|n| {
            let (judgement, mean, max) = value(n);
            Packed::new(judgement, mean, max)
        })
    }

    #[test]
    fn a_day_is_read_back_as_it_was_packed() {
        let mut random = noise(7);
        for case in 0..500 {
            let day = day(|n| {
                let judgement = Judgement::ALL[(random() * 4.0) as usize % 4];
                let mean = match case % 4 {
                    0 => 0.0,
                    1 => random() * 1e9,
                    2 => 1000.0 + random() * 100.0,
                    _ => (n / 40) as f64,
                };
                (judgement, mean, mean * (1.0 + random()))
            });
            assert_eq!(unpack_day(&pack_day(&day)), Ok(day), "case {case}");
        }
    }

    #[test]
    fn a_quiet_day_costs_nearly_nothing_and_a_noisy_one_a_byte_a_slot_at_most() {
        let quiet = pack_day(&day(|_| (Judgement::Within, 0.0, 0.0)));
        assert!(quiet.len() <= 6, "{}", quiet.len());
        let mut random = noise(1);
        let five = pack_day(&day(|_| {
            let mean = 1000.0 * (0.95 + 0.1 * random());
            (Judgement::Within, mean, mean * 1.03)
        }));
        assert!(five.len() <= 260, "{}", five.len());
        let twenty = pack_day(&day(|_| {
            let mean = 1000.0 * (0.8 + 0.4 * random());
            (Judgement::Within, mean, mean * 1.03)
        }));
        assert!(twenty.len() <= 330, "{}", twenty.len());
    }

    #[test]
    fn a_row_is_read_back_and_zones_that_are_alike_share_a_run() {
        let mut zones = vec![Packed::new(Judgement::Within, 0.0, 0.0); 4096];
        assert_eq!(pack_row(&zones).len(), 5);
        zones[7] = Packed::new(Judgement::Over, 3000.0, 3100.0);
        zones[9] = Packed::default();
        let mut read = vec![Packed::default(); 4096];
        unpack_row(&pack_row(&zones), |place, packed| read[place] = packed).unwrap();
        assert_eq!(read, zones);
    }

    #[test]
    fn values_are_kept_to_about_one_percent() {
        for n in [0.0, 1.0, 3.5, 41.0, 999.0, 1100.0, 123_456.0, 5e7] {
            assert!((value(level(n)) - n).abs() <= 0.012 * (n + 1.0), "{n} {}", value(level(n)));
        }
    }

    #[test]
    fn garbage_is_told_and_never_read_beyond_its_end() {
        let mut random = noise(3);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..(random() * 40.0) as usize).map(|_| (random() * 256.0) as u8).collect();
            let _ = unpack_day(&bytes);
            let _ = unpack_row(&bytes, |_, _| {});
        }
        assert_eq!(unpack_day(&[]), Err(Garbled));
        assert_eq!(unpack_row(&[0x80], |_, _| {}), Err(Garbled));
    }
}
