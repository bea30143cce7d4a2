use super::{about::samples, *};
use std::{fs, path::Path};
use time::macros::datetime;
use weir_reachout::{
    contact::NoticeKind,
    policy::Policy,
    slot::{Judgement, SlotIndex},
};

use crate::plot::{PlotSlot, Totals};

pub(crate) fn plot() -> Plot {
    let until = SlotIndex::containing(datetime!(2026-11-27 00:00 UTC));
    let from = until.back(30 * 288);
    let slots = (0..30 * 288_u32).map(|n| {
        let (mean, judgement) =
            if n % 288 < 20 { (1500.0, Judgement::Over) } else { (600.0, Judgement::Within) };
        PlotSlot { index: from.forth(n), mean, max: mean + 12.4, judgement }
    });
    Plot {
        zone: "chat.example.com".to_owned(),
        plan: "free".to_owned(),
        from,
        until,
        slots: slots.collect(),
        guidelines: vec![(from, 1000)],
        over_ratio: 1.1,
        spikes: (0..30).map(|day| from.forth(day * 288)).collect(),
        levels: Vec::new(),
        totals: Totals { over_hours: 50.0, coverage: 1.0 },
    }
}

fn head(kind: NoticeKind) -> Letterhead {
    Letterhead {
        kind,
        number: 1,
        sender_name: "Example Edge".to_owned(),
        case: "c-0123456789ab".to_owned(),
        at: datetime!(2026-11-27 00:05 UTC),
        first_delivered: (kind != NoticeKind::First).then_some(datetime!(2026-11-27 00:06 UTC)),
        resource: None,
        client: None,
        offer: Offer::Plan { plan: "pro".to_owned() },
        links: Some(Links {
            page: "https://n.example/n/T".to_owned(),
            event: "https://n.example/n/T#event".to_owned(),
            talk: "https://n.example/n/T#talk".to_owned(),
            plans: "https://n.example/n/T#plans".to_owned(),
            until: "26 January 2027".to_owned(),
        }),
        limit: (kind == NoticeKind::LimitScheduled).then_some((1200, datetime!(2026-12-12 0:00 UTC))),
        was_limited: false,
        exempt_until: None,
        new_plan: false,
    }
}

pub(crate) fn about(kind: NoticeKind) -> About {
    About::new(head(kind), &Policy::default(), &plot())
}

fn letter(kind: NoticeKind) -> Letter {
    Letter::write(&Templates::built_in(), &about(kind), &plot()).expect("the letter can be written")
}

/// One line, and HTML as its text.
fn words(text: &str) -> String {
    let mut plain = String::new();
    let mut tag = false;
    for c in text.chars() {
        match c {
            '<' => tag = true,
            '>' => tag = false,
            c if !tag => plain.push(c),
            _ => {}
        }
    }
    plain.replace("&nbsp;", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn first_notice_says_all_that_it_has_to_in_text_and_in_html() {
    let letter = letter(NoticeKind::First);
    assert_eq!(letter.subject, "chat.example.com: your connections and the free plan");
    for text in [words(&letter.text), words(&letter.html)] {
        for said in [
            "Nothing is limited",
            "From 28 October 2026 to 26 November 2026, your open WebSocket connections were more than 10 % above",
            "guideline of 1,000 (that is, above 1,100) for 50.0 hours in total, on 30 separate occasions",
            "The highest count was about 1,512",
            "within 30 days, your connections were more than 10 % above the guideline for more than 36 hours in total, or on 4 or more separate occasions spread over at least 7 days. Anything less is free and needs no action.",
            "It was an event",
            "Tell us about it",
            "lans",
            "would fit",
            "we write once more, on 4 December 2026 at the earliest",
            "Silence alone limits nothing",
            "it does not begin before 11 December 2026",
            "good until 26 January 2027",
            "Case c-0123456789ab",
        ] {
            assert!(text.contains(said), "no {said:?} in\n{text}");
        }
    }
    for link in ["https://n.example/n/T#event", "https://n.example/n/T#talk", "https://n.example/n/T#plans"] {
        assert!(letter.text.contains(link), "{link}");
    }
    assert!(letter.text.lines().all(|line| line.chars().count() <= 100), "{}", letter.text);
    assert!(!letter.text.contains("\n\n\n"), "{}", letter.text);
    assert!(letter.html.contains("cid:evidence@weir") && letter.plot_png.starts_with(b"\x89PNG"));
}

#[test]
fn every_kind_says_that_nothing_is_limited_and_has_its_own_news() {
    for (kind, news) in [
        (NoticeKind::First, "beginning of a conversation"),
        (NoticeKind::Reminder, "once more"),
        (NoticeKind::EventExempted, "does not count against your plan"),
        (NoticeKind::Resolved, "is settled"),
        (
            NoticeKind::LimitScheduled,
            "From 12 December 2026 on, new WebSocket connections of chat.example.com are answered 503 while 1,200 or more are open. Open connections stay.",
        ),
    ] {
        let letter = letter(kind);
        for text in [words(&letter.text), words(&letter.html)] {
            let text = text.replace("nothing is limited", "Nothing is limited");
            assert!(text.contains("Nothing is limited") || text.contains("Nothing was limited"), "{text}");
            assert!(text.contains(news), "no {news:?} in\n{text}");
        }
    }
}

#[test]
fn a_letter_about_another_resource_says_which_and_nothing_of_connections_above_a_guideline() {
    let at = datetime!(2026-11-20 12:05 UTC);
    let resource = Some(Resource::new("bytes_per_second", 1_000_000, 36.08, at));
    for kind in [NoticeKind::First, NoticeKind::Reminder, NoticeKind::LimitScheduled] {
        let about = About { resource: resource.clone(), ..about(kind) };
        let (subject, text) = Templates::built_in().text(&about).unwrap();
        let html = Templates::built_in().html(&about, &subject).unwrap();
        assert!(!subject.contains("your connections"), "{subject}");
        assert!(!text.contains("\n\n\n"), "{text}");
        for text in [words(&text), words(&html)] {
            for said in [
                "In the 30 days until 20 November 2026, chat.example.com was more than 10 % above what the plan is made for (1,000,000 bytes per second, both ways) for 36.1 hours in total.",
                "othing is limited",
                "more than 0.5 % of what all zones use of it",
            ] {
                assert!(text.contains(said), "no {said:?} in\n{text}");
            }
            assert!(!text.contains("guideline") && !text.contains("occasion"), "{text}");
        }
    }
}

#[test]
fn a_letter_after_a_limit_does_not_deny_it() {
    for kind in [NoticeKind::First, NoticeKind::EventExempted] {
        let about = About { was_limited: true, ..about(kind) };
        let (subject, text) = Templates::built_in().text(&about).unwrap();
        let html = Templates::built_in().html(&about, &subject).unwrap();
        for text in [words(&text), words(&html)] {
            assert!(text.contains("has ended"), "{text}");
            assert!(!text.contains("nothing was refused") && !text.contains("Nothing was limited"), "{text}");
        }
    }
}

#[test]
fn weirs_own_templates_take_every_letter() {
    let templates = Templates::built_in();
    for kind in NoticeKind::ALL {
        for about in samples(kind) {
            let (subject, text) = templates.text(&about).expect("a text");
            let html = templates.html(&about, &subject).expect("an HTML");
            assert!(!text.contains("\n\n\n"), "{text}");
            assert!(html.ends_with("</html>"), "{html}");
        }
    }
}

#[test]
fn what_a_zone_is_called_cannot_break_out_of_html_or_of_a_header() {
    let mut plot = plot();
    "<img src=x onerror=alert(1)>\r\nBcc: all@example.com".clone_into(&mut plot.zone);
    let about = About::new(head(NoticeKind::First), &Policy::default(), &plot);
    let letter = Letter::write(&Templates::built_in(), &about, &plot).expect("a letter");
    assert!(!letter.html.contains("<img src=x"), "{}", letter.html);
    assert!(letter.html.contains("&lt;img src=x"));
    assert!(!letter.subject.contains(['\r', '\n']));
}

#[test]
fn preview_is_what_is_sent_with_the_plot_in_it() {
    let letter = letter(NoticeKind::First);
    assert!(letter.preview_text().starts_with("Subject: chat.example.com: your connections"));
    assert!(letter.preview_html().contains("src=\"data:image/png;base64,iVBOR"));
}

fn load(files: &[(&str, &str)]) -> Result<Templates, String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let shown = |error: TemplateError| error.to_string().replace(&folder.path().display().to_string(), "T");
    Templates::load(folder.path()).map_err(shown)
}

#[test]
fn operators_own_templates_take_the_place_of_weirs_one_by_one() {
    let text = "Subject: {{ zone }} speaks\n\nHi, {{ over_hours }} h.\n";
    let templates = load(&[("first.txt", text)]).expect("right");
    let about = about(NoticeKind::First);
    assert_eq!(templates.text(&about).expect("a text").1, "Hi, 50.0 h.\n");
    assert!(templates.html(&about, "s").expect("an HTML").contains("three ways to answer"));
}

#[test]
fn faulty_template_is_named_with_its_line_before_anybody_is_written_to() {
    let unknown = load(&[("first.txt", "Subject: {{ zone }}\n\nHello {{ custmer }}\n")]).unwrap_err();
    assert_eq!(unknown, "T/first.txt:3: undefined value: `custmer` is undefined");
    let syntax = load(&[("reminder.html", "<p>\n{% if links %}\n</p>\n")]).unwrap_err();
    assert!(syntax.starts_with("T/reminder.html:"), "{syntax}");
    let optional = load(&[("first.txt", "Subject: {{ zone }}\n\n\n{{ links.event }}\n")]).unwrap_err();
    assert!(optional.starts_with("T/first.txt:4: undefined value"), "{optional}");
    let subject = load(&[("resolved.txt", "Hello\n")]).unwrap_err();
    assert_eq!(
        subject,
        "T/resolved.txt:1: it does not begin with a line `Subject: ...` with something in it"
    );
    let name = load(&[("frist.txt", "Subject: a\n")]).unwrap_err();
    assert!(name.starts_with("T/frist.txt: no template is called so; there are: first.txt, first.html"));
    assert!(matches!(Templates::load(Path::new("/nowhere")), Err(TemplateError::Read { .. })));
}
