//! `[[listeners]]` and `agent.marks`: servers that are not weir's own.

use std::{net::SocketAddr, sync::Arc};

use super::{listeners::Listeners, plans::source_cap};
use crate::{
    model::{Counts, ForeignListener, MarkRange, Zone, ZoneName},
    nearest::nearest,
    raw::{LISTENER, MARKS, Section, Value},
};

const COUNTS: [(&str, Counts); 2] = [("websockets", Counts::Websockets), ("sockets", Counts::Sockets)];
const ADDRESS: &str = "\"0.0.0.0:9100\"";
const DEFAULT_BASE: u32 = 0x5700_0000;
const DEFAULT_MASK: u32 = 0xff00_0000;

/// Reads the `[[listeners]]` of the main file.
pub(super) fn listeners(
    root: &Section<'_>,
    listeners: &mut Listeners,
    zones: &[Arc<Zone>],
) -> Vec<ForeignListener> {
    let sections = root.get("listeners").map(|value| value.sections(&LISTENER)).unwrap_or_default();
    sections.iter().filter_map(|section| foreign(section, listeners, zones)).collect()
}

fn foreign(section: &Section<'_>, listeners: &mut Listeners, zones: &[Arc<Zone>]) -> Option<ForeignListener> {
    let address = section.required("address", ADDRESS).and_then(|value| address(&value, listeners));
    let zone = section.get("zone").map(|value| zone(&value, zones));
    if let (None, Some(counts)) = (&zone, section.get("counts")) {
        counts
            .fault("`counts` is of a listener that one zone has to itself", "add `zone`, or remove `counts`");
    }
    let counts = section.get("counts").and_then(|value| value.choice(&COUNTS)).unwrap_or(Counts::Websockets);
    let source_cap = source_cap(section);
    let zone = match zone {
        Some(zone) => Some(zone?),
        None => None,
    };
    Some(ForeignListener { address: address?, zone, counts, source_cap })
}

fn address(value: &Value<'_>, listeners: &mut Listeners) -> Option<SocketAddr> {
    listeners.address(value.text(ADDRESS)?, value, "address")
}

fn zone(value: &Value<'_>, zones: &[Arc<Zone>]) -> Option<ZoneName> {
    let name = value.text("\"game.example\"")?;
    if let Some(zone) = zones.iter().find(|zone| zone.name.as_str() == name) {
        return Some(zone.name.clone());
    }
    let remedy = match nearest(name, zones.iter().map(|zone| zone.name.as_str())) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => "add the zone, or name one that there is".to_owned(),
    };
    value.fault(format!("there is no zone {name:?}"), remedy);
    None
}

/// Reads `marks = { base = ..., mask = ... }`.
pub(super) fn marks(section: &Section<'_>) -> Option<MarkRange> {
    let value = section.get("marks")?;
    let table = value.section(&MARKS)?;
    let word = |key, default: u32| {
        let number = table.get(key).map(|value| value.number(0..=u32::MAX.into(), default.into()));
        number.map_or(Some(default), |number| number.and_then(|number| number.try_into().ok()))
    };
    let (base, mask) = (word("base", DEFAULT_BASE)?, word("mask", DEFAULT_MASK)?);
    let bits = mask.leading_ones();
    if mask.count_ones() != bits || !(8..=24).contains(&bits) {
        value.fault(
            format!("the mask {mask:#x} is not the 8 to 24 highest bits of a word, all together"),
            format!("for example mask = {DEFAULT_MASK:#x}, which leaves 24 bits for zones"),
        );
    } else if base & !mask != 0 {
        value.fault(
            format!("the base {base:#x} has bits that the mask {mask:#x} leaves to zones"),
            format!("write base = {:#x}", base & mask),
        );
    } else if base == 0 {
        value.fault(
            "the base is 0: a socket without a mark would speak of a zone",
            format!("write base = {DEFAULT_BASE:#x}"),
        );
    }
    Some(MarkRange { mask, base })
}

/// A zone's number has to fit behind the mask.
pub(super) fn check_numbers(root: &Section<'_>, range: Option<MarkRange>, zones: &[Arc<Zone>]) {
    let Some(range) = range else { return };
    for zone in zones.iter().filter(|zone| zone.mark.is_some_and(|mark| mark > range.most())) {
        root.fault(
            format!("the mark of zone \"{}\" does not fit: the highest is {}", zone.name, range.most()),
            "give it a lower `mark`, or `marks` a mask that leaves more bits",
        );
    }
}
