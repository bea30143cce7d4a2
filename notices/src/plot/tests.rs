use super::*;
use std::{env, fs, path::Path};
use time::macros::datetime;

const GUIDELINE: u64 = 1000;

/// A month with everything: days and nights, a rise in the guideline, three spikes, an outage, a week far above.
fn month() -> Plot {
    let until = SlotIndex::containing(datetime!(2026-11-27 07:35 UTC));
    let from = until.back(30 * 288);
    let mut noise = 7_u32;
    let mut slots = Vec::new();
    for n in 0..30 * 288_u32 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let jitter = f64::from(noise >> 16) / 65_536.0;
        let day = f64::from(n) / 288.0;
        // The golden file is the same on every machine: no sine, a triangle.
        let phase = (day + 0.3).fract();
        let swing = if phase < 0.5 { phase * 2.0 } else { 2.0 - phase * 2.0 };
        let mut mean = 420.0 + 380.0 * swing + 40.0 * jitter;
        let spike = |start: f64, hours: f64| day >= start && day < start + hours / 24.0;
        if spike(3.4, 2.0) || spike(9.41, 0.4) || spike(15.9, 5.0) {
            mean += 1300.0;
        }
        if day > 22.0 {
            mean *= 2.1;
        }
        if (12.2..13.1).contains(&day) || (19.0..19.05).contains(&day) {
            continue;
        }
        let index = from.forth(n);
        let judgement = if mean > 1100.0 { Judgement::Over } else { Judgement::Within };
        slots.push(PlotSlot { index, mean, max: mean * (1.03 + 0.12 * jitter), judgement });
    }
    let over = slots.iter().filter(|slot| slot.judgement == Judgement::Over).count();
    let level = |plan: &str, guideline| Level { plan: plan.to_owned(), guideline };
    Plot {
        zone: "chat.example.com".to_owned(),
        plan: "free".to_owned(),
        from,
        until,
        totals: Totals { over_hours: over as f64 / 12.0, coverage: slots.len() as f64 / 8640.0 },
        slots,
        guidelines: vec![(from, GUIDELINE)],
        over_ratio: 1.1,
        spikes: [3.4, 9.41, 15.9, 22.3].map(|day| from.forth((day * 288.0) as u32)).into(),
        levels: vec![level("free", GUIDELINE), level("pro", 2500), level("business", 25_000)],
    }
}

/// Compares with the file, or writes it if `WEIR_BLESS` is set.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if env::var_os("WEIR_BLESS").is_some() {
        fs::write(&path, text).expect("the golden file can be written");
    }
    let kept = fs::read_to_string(&path).expect("the golden file is there");
    assert!(kept == text, "{name} differs from what is drawn; look at it, then bless it with WEIR_BLESS=1");
}

#[test]
fn the_same_month_is_the_same_picture() {
    let svg = month().svg();
    golden("month.svg", &svg);
    assert!(svg.len() < 120_000, "{} bytes are too many for a page", svg.len());
}

#[test]
fn png_is_drawn_with_text_and_without_any_font_of_the_host() {
    let with = month().png().expect("draws");
    assert!(with.starts_with(b"\x89PNG"));
    // Pixels across and down, as the header has them.
    assert_eq!(
        with[16..24],
        [(WIDTH * PNG_SCALE).to_be_bytes(), (HEIGHT * PNG_SCALE).to_be_bytes()].concat()
    );
    assert!(with.len() < 200_000, "{} bytes are too many for a mail", with.len());
    let bare: String = month().svg().lines().filter(|line| !line.starts_with("<text")).collect();
    assert_ne!(with, png::render(&bare).expect("draws"), "the words were drawn");
    if let Some(path) = env::var_os("WEIR_SHOW_PNG") {
        fs::write(path, with).expect("the picture can be written");
    }
}

#[test]
fn over_unknown_spikes_guideline_and_plans_are_all_in_it() {
    let plot = month();
    let svg = plot.svg();
    let scale_of = |fill: &str| svg.matches(&format!("fill=\"{fill}\"")).count();
    // Three spikes, and each day of the last week; twice, as shade and as bar; and once each in the legend.
    assert!(scale_of("#c2410c") >= 9, "{}", scale_of("#c2410c"));
    assert_eq!(scale_of("#c2410c"), scale_of("#fbd9bf"));
    assert_eq!(scale_of("url(#unknown)"), 3, "two outages and the legend");
    for n in 1..=4 {
        assert!(svg.contains(&format!("fill=\"#fff\">{n}</text>")), "spike {n}");
    }
    assert!(svg.contains(">free 1,000</text>") && svg.contains(">pro 2,500</text>"));
    assert!(!svg.contains("25,000"), "a plan far above would press the curve flat");
    assert!(svg.contains("Guideline 1,000; counted as over above 1,100."));
}

#[test]
fn a_guideline_that_changed_is_a_step() {
    let mut plot = month();
    plot.guidelines.push((plot.from.forth(20 * 288), 2500));
    "pro".clone_into(&mut plot.plan);
    let svg = plot.svg();
    let line = svg.lines().find(|line| line.contains("stroke=\"#000\"")).expect("the guideline");
    assert_eq!(line.matches('L').count(), 3, "{line}");
    assert!(svg.contains(">pro 2,500</text>"));
}

#[test]
fn nothing_known_is_all_hatched_and_hostile_names_stay_text() {
    let mut plot = month();
    plot.slots.clear();
    plot.spikes.clear();
    plot.totals = Totals::default();
    "a<script>&\"".clone_into(&mut plot.zone);
    let svg = plot.svg();
    assert!(svg.contains("a&lt;script&gt;&amp;&quot;"));
    assert!(!svg.contains("<script"));
    assert_eq!(svg.matches("url(#unknown)").count(), 2);
    plot.png().expect("draws");
}

#[test]
fn every_other_slot_unknown_is_still_a_small_picture() {
    let mut plot = month();
    plot.slots.retain(|slot| (slot.index.since(plot.from)).is_multiple_of(2));
    let svg = plot.svg();
    assert!(svg.len() < 120_000, "{}", svg.len());
    for (n, slot) in plot.slots.iter_mut().enumerate() {
        slot.judgement = if n % 2 == 0 { Judgement::Over } else { Judgement::Unknown };
    }
    assert!(plot.svg().len() < 250_000, "{}", plot.svg().len());
}
