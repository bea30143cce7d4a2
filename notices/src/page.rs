//! The pages that a link leads to. Reading one changes nothing: mail scanners and previews follow links too. Only its forms do.
//!
//! No script, no address of anybody else's, no referrer, not in any index. The policy of the page allows its one style sheet by
//! its hash, and forms that go to weir itself. Templates are those of letters, and may be the operator's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{Value, context, value::Serde};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;
use time::OffsetDateTime;
use weir_reachout::fact::Answer;

use crate::{
    answer::{MOST_WORDS, label},
    letter::{About, TemplateError, Templates, day_in_words},
    plot::Plot,
};

const STYLE: &str = include_str!("../templates/page.css");

/// What goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    pub html: String,
}

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// Headers of every page.
pub fn headers() -> [(&'static str, &'static str); 8] {
    [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", POLICY.as_str()),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex, nofollow"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
    ]
}

/// How the case is that a link names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Open,
    Limited,
    Closed,
}

/// What was seen, and the three ways to answer.
pub fn show(
    templates: &Templates,
    about: &About,
    plot: &Plot,
    standing: Standing,
) -> Result<Page, TemplateError> {
    let html = templates.page(
        "page.html",
        context! {
            sender_name => about.sender_name.as_str(),
            about => Value::from(Serde(about)),
            svg => Value::from_safe_string(plot.svg()),
            style => Value::from_safe_string(STYLE.to_owned()),
            closed => standing == Standing::Closed,
            limited => standing == Standing::Limited,
            most_words => MOST_WORDS,
        },
    )?;
    Ok(Page { status: 200, html })
}

/// After an answer, and after the same one again.
pub fn thanks(
    templates: &Templates,
    sender_name: &str,
    case: &str,
    answer: Answer,
) -> Result<Page, TemplateError> {
    let html = templates.page(
        "thanks.html",
        context! {
            sender_name,
            case,
            answer => label(answer),
            style => Value::from_safe_string(STYLE.to_owned()),
        },
    )?;
    Ok(Page { status: 200, html })
}

/// Why there is nothing to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorry {
    /// The link is none, or its case is unknown here.
    Unknown,
    Expired {
        until: OffsetDateTime,
    },
    /// The form was none of the page's.
    NoAnswer,
    /// weir cannot keep an answer right now.
    NotNow,
}

pub fn sorry(templates: &Templates, sender_name: &str, sorry: Sorry) -> Result<Page, TemplateError> {
    let again = "Please answer the mail that the link came in.";
    let (status, heading, words) = match sorry {
        Sorry::Unknown => (404, "This link is not known", format!("It may have been cut off. {again}")),
        Sorry::Expired { until } => {
            (410, "This link is too old", format!("It was good until {}. {again}", day_in_words(until)))
        }
        Sorry::NoAnswer => {
            (400, "This was no answer", format!("Go back and press one of the buttons. {again}"))
        }
        Sorry::NotNow => (
            503,
            "Not now, sorry",
            "Your answer could not be kept. Please try again in some minutes.".to_owned(),
        ),
    };
    let html = templates.page(
        "sorry.html",
        context! { sender_name, heading, words, style => Value::from_safe_string(STYLE.to_owned()) },
    )?;
    Ok(Page { status, html })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::tests::{about, plot};
    use weir_reachout::contact::NoticeKind;

    fn shown(standing: Standing) -> String {
        let about = about(NoticeKind::First);
        show(&Templates::built_in(), &about, &plot(), standing).expect("a page").html
    }

    #[test]
    fn page_shows_the_plot_and_three_forms_and_needs_nothing_from_elsewhere() {
        let html = shown(Standing::Open);
        assert!(html.contains("<svg xmlns") && html.contains("50.0 hours"));
        assert_eq!(html.matches("<form method=\"post\"").count(), 3);
        for answer in ["event", "talk", "plans"] {
            assert!(html.contains(&format!("name=\"answer\" value=\"{answer}\"")), "{answer}");
        }
        let elsewhere = html.replace("http://www.w3.org/2000/svg", "");
        for word in ["http://", "https://", "<script", "<img", "<link", " style=", "onclick"] {
            assert!(!elsewhere.contains(word), "{word}");
        }
        assert!(html.contains(&format!("<style>{STYLE}</style>")), "the policy knows the style by its hash");
    }

    #[test]
    fn closed_case_is_shown_and_takes_no_answer_and_a_limit_is_said() {
        let closed = shown(Standing::Closed);
        assert!(closed.contains("<svg") && closed.contains("settled") && !closed.contains("<form"));
        assert!(shown(Standing::Limited).contains("A limit on new connections is in force"));
    }

    #[test]
    fn policy_forbids_everything_but_the_style_and_the_form() {
        let headers = headers();
        let policy = headers.iter().find(|(name, _)| *name == "content-security-policy").expect("a policy").1;
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy.contains("unsafe"));
        assert!(headers.contains(&("referrer-policy", "no-referrer")));
        assert!(headers.contains(&("x-robots-tag", "noindex, nofollow")));
    }

    #[test]
    fn what_is_wrong_with_a_link_is_said_kindly() {
        let templates = Templates::built_in();
        let page = |why| sorry(&templates, "Example <Edge>", why).expect("a page");
        let until = time::macros::datetime!(2026-11-27 0:00 UTC);
        assert_eq!(page(Sorry::Unknown).status, 404);
        let expired = page(Sorry::Expired { until });
        assert_eq!(expired.status, 410);
        assert!(expired.html.contains("good until 27 November 2026"));
        assert!(expired.html.contains("Example &lt;Edge&gt;"));
        let thanks = thanks(&templates, "Edge", "c-1", Answer::Plans).expect("a page");
        assert!(thanks.html.contains("You asked for plans") && thanks.html.contains("Case c-1"));
    }
}
