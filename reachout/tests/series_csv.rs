//! What `weir simulate` reads, and what it says of files that it cannot read.

mod support;

use support::{DAY_0, day};
use time::Duration;
use weir_reachout::{
    series::{Series, SeriesError},
    slot::{Slot, SlotIndex},
};

fn slots(csv: &str) -> Vec<Slot> {
    Series::read(csv.as_bytes()).expect("a good series").slots().collect()
}

/// Value and completeness by slot of day 0.
fn values(csv: &str) -> Vec<(u32, f64, f64)> {
    let number = |slot: &Slot| slot.index.since(SlotIndex::containing(DAY_0));
    slots(csv).iter().map(|slot| (number(slot), slot.value, slot.complete)).collect()
}

/// A row every `step` seconds from day 0 on.
fn every(step: i64, lives: impl IntoIterator<Item = f64>) -> String {
    let rows = lives.into_iter().zip(0..).map(|(live, n)| {
        let at = DAY_0 + Duration::seconds(step * n);
        let at = at.format(&time::format_description::well_known::Rfc3339).expect("a date");
        format!("{at},{live}\n")
    });
    std::iter::once("timestamp,live\n".to_owned()).chain(rows).collect()
}

fn error(csv: &str) -> String {
    Series::read(csv.as_bytes()).expect_err("a faulty series").to_string()
}

#[test]
fn five_minute_rows_are_slots() {
    assert_eq!(values(&every(300, [10.0, 20.0, 30.0])), [(0, 10.0, 1.0), (1, 20.0, 1.0), (2, 30.0, 1.0)]);
}

#[test]
fn rows_at_any_minute_belong_to_the_slot_they_lie_in_and_absent_ones_are_unknown() {
    let csv =
        "t,v\n2024-01-01 00:04:00,1\n2024-01-01 00:09:00,2\n2024-01-01 00:19:00,4\n2024-01-01 00:24:00,5\n";
    assert_eq!(values(csv), [(0, 1.0, 1.0), (1, 2.0, 1.0), (3, 4.0, 1.0), (4, 5.0, 1.0)]);
}

#[test]
fn rows_a_little_early_or_late_change_nothing() {
    let csv = "t,v\n2024-01-01 00:00:02,1\n2024-01-01 00:04:58,2\n2024-01-01 00:10:01,3\n2024-01-01 00:15:01,4\n2024-01-01 00:20:01,5\n";
    assert_eq!(
        values(csv).iter().map(|(slot, value, _)| (*slot, *value)).collect::<Vec<_>>(),
        [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0)]
    );
}

#[test]
fn steps_below_five_minutes_are_averaged() {
    let per_second = every(1, (0..900).map(|second| if second < 450 { 100.0 } else { 200.0 }));
    assert_eq!(values(&per_second), [(0, 100.0, 1.0), (1, 150.0, 1.0), (2, 200.0, 1.0)]);
    let per_minute = every(60, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(values(&per_minute), [(0, 3.0, 1.0), (1, 1.2, 0.2)]);
    assert_eq!(slots(&per_minute)[0].max, 5.0);
}

#[test]
fn longer_steps_are_spread_over_their_slots() {
    let hourly = values(&every(3600, [12.0, 24.0]));
    assert_eq!(hourly.len(), 24);
    assert!(hourly.iter().all(|(slot, value, complete)| *value == if *slot < 12 { 12.0 } else { 24.0 } && *complete == 1.0));
    // Seven minutes are no whole number of slots: the second slot is 00:05 to 00:10, two minutes of the first row.
    let odd = values(&every(420, [10.0, 20.0, 30.0]));
    assert_eq!(odd[1], (1, (2.0 * 10.0 + 3.0 * 20.0) / 5.0, 1.0));
}

#[test]
fn an_incomplete_sum_says_so() {
    let csv = "timestamp,live,complete\n2024-01-01T00:00:00Z,10,0.5\n2024-01-01T00:05:00Z,20,1\n2024-01-01T00:10:00Z,30,\n";
    assert_eq!(values(csv), [(0, 10.0, 0.5), (1, 20.0, 1.0), (2, 30.0, 1.0)]);
}

#[test]
fn order_of_rows_does_not_matter_and_rows_of_one_time_are_averaged() {
    let csv =
        "t,v\n2024-01-01 00:10:00,3\n2024-01-01 00:00:00,1\n2024-01-01 00:05:00,2\n2024-01-01 00:05:00,4\n";
    assert_eq!(values(csv), [(0, 1.0, 1.0), (1, 3.0, 1.0), (2, 3.0, 1.0)]);
}

#[test]
fn times_may_have_an_offset_quotes_windows_line_ends_and_a_byte_order_mark() {
    let csv = "\u{feff}\"time\",\"live\"\r\n\"2024-01-01T02:00:00+02:00\",\"7\"\r\n\r\n2024-01-01T00:05:00.250Z,8\r\n";
    assert_eq!(
        values(csv).iter().map(|(slot, value, _)| (*slot, *value)).collect::<Vec<_>>(),
        [(0, 7.0), (1, 8.0)]
    );
    assert_eq!(slots("t,v\n2024-01-03 00:00:00,1\n")[0].index.start(), day(2, "00:00"));
}

#[test]
fn a_fault_is_named_with_line_column_and_remedy() {
    let row = |text: &str| error(&format!("timestamp,live\n2024-01-01 00:00:00,1\n{text}\n"));
    assert_eq!(
        row("01/02/2024 00:05,2"),
        "line 3, column 1 (timestamp): `01/02/2024 00:05` is no time; write it as 2024-01-31T23:55:00Z or 2024-01-31 23:55:00 (UTC)"
    );
    assert_eq!(
        row("2024-01-01 00:05:00,many"),
        "line 3, column 2 (live count): `many` is no count; write a number of at least 0, and leave the whole row out where nothing is known"
    );
    for no_count in ["", "-1", "NaN", "inf", "1e999"] {
        assert!(
            row(&format!("2024-01-01 00:05:00,{no_count}")).contains("column 2 (live count)"),
            "{no_count}"
        );
    }
    assert_eq!(
        row("2024-01-01 00:05:00,2,1.5"),
        "line 3, column 3 (complete): `1.5` is no share; write 0 to 1, or leave the column out"
    );
    assert!(row("2024-01-01 00:05:00").contains("there is no live count"));
    assert!(row("2024-01-01 00:05:00,1,1,zone").contains("more than three columns"));
    assert!(row("1960-01-01 00:05:00,1").contains("not between 1970 and 9999"));
}

#[test]
fn a_file_that_is_no_series_says_what_is_missing() {
    assert!(error("").contains("header line"));
    assert!(error("timestamp,live\n").contains("no row"));
    assert!(error("2024-01-01 00:00:00,1\n").contains("put a line like"));
    assert_eq!(
        error(&every(7200, [1.0, 2.0, 3.0])),
        "rows are mostly 120 min apart; use a series with a step of at most 1 h"
    );
    assert!(matches!(Series::read(&b"t,v\n\xff\xfe,1\n"[..]), Err(SeriesError::Read(_))));
}
