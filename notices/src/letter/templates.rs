//! The templates: weir's own, each replaced by the file of its name in the operator's folder if there is one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;
use weir_reachout::{contact::NoticeKind, fact::Answer};

use super::About;
use crate::{
    page,
    plot::{Plot, thousands},
};

/// What there is, by name.
const BUILT_IN: [(&str, &str); 16] = [
    ("first.txt", include_str!("../../templates/first.txt")),
    ("first.html", include_str!("../../templates/first.html")),
    ("reminder.txt", include_str!("../../templates/reminder.txt")),
    ("reminder.html", include_str!("../../templates/reminder.html")),
    ("event_exempted.txt", include_str!("../../templates/event_exempted.txt")),
    ("event_exempted.html", include_str!("../../templates/event_exempted.html")),
    ("resolved.txt", include_str!("../../templates/resolved.txt")),
    ("resolved.html", include_str!("../../templates/resolved.html")),
    ("limit_scheduled.txt", include_str!("../../templates/limit_scheduled.txt")),
    ("limit_scheduled.html", include_str!("../../templates/limit_scheduled.html")),
    ("frame.html", include_str!("../../templates/frame.html")),
    ("parts.html", include_str!("../../templates/parts.html")),
    ("page_frame.html", include_str!("../../templates/page_frame.html")),
    ("page.html", include_str!("../../templates/page.html")),
    ("thanks.html", include_str!("../../templates/thanks.html")),
    ("sorry.html", include_str!("../../templates/sorry.html")),
];

/// A template is a page of text.
const LONGEST_TEMPLATE: u64 = 256 * 1024;
const LONGEST_SUBJECT: usize = 200;

/// Templates that were read and tried.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    folder: Option<PathBuf>,
}

/// What is wrong with a template, and where.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("the template {file} cannot be read")]
    Read { file: String, source: io::Error },
    #[error("the template {file} is longer than {LONGEST_TEMPLATE} bytes")]
    TooLong { file: String },
    #[error("{file}: no template is called so; there are: {known}")]
    Unknown { file: String, known: String },
    #[error("{file}:{line}: {what}")]
    Wrong { file: String, line: usize, what: String },
    #[error("{file}:1: it does not begin with a line `Subject: ...` with something in it")]
    NoSubject { file: String },
}

/// A letter as a template sees it: its fields by name, all of them as `about` for macros, and the subject in HTML.
#[derive(Serialize)]
struct Seen<'a> {
    #[serde(flatten)]
    fields: &'a About,
    about: &'a About,
    subject: &'a str,
}

impl Templates {
    pub fn built_in() -> Self {
        let templates = Self { environment: environment(), folder: None };
        match templates.with(BUILT_IN.map(|(name, source)| (name, source.to_owned())).into()) {
            Ok(templates) => templates,
            Err(error) => unreachable!("weir's own templates are right: {error}"),
        }
    }

    /// weir's own, with those of a folder in their place.
    pub fn load(folder: &Path) -> Result<Self, TemplateError> {
        let templates = Self { environment: environment(), folder: Some(folder.to_owned()) };
        templates.check_names(folder)?;
        let source = |(name, own): (&'static str, &str)| {
            Ok((name, templates.read(&folder.join(name))?.unwrap_or_else(|| own.to_owned())))
        };
        let sources = BUILT_IN.into_iter().map(source).collect::<Result<Vec<_>, TemplateError>>()?;
        let templates = templates.with(sources)?;
        for kind in NoticeKind::ALL {
            for about in super::about::samples(kind) {
                let (subject, _) = templates.text(&about)?;
                templates.html(&about, &subject)?;
                templates.try_pages(&about)?;
            }
        }
        Ok(templates)
    }

    fn try_pages(&self, about: &About) -> Result<(), TemplateError> {
        for standing in [page::Standing::Open, page::Standing::Closed] {
            page::show(self, about, &Plot::empty(), standing)?;
        }
        page::thanks(self, &about.sender_name, &about.case, Answer::Event)?;
        page::sorry(self, &about.sender_name, page::Sorry::Unknown).map(drop)
    }

    fn with(mut self, sources: Vec<(&'static str, String)>) -> Result<Self, TemplateError> {
        for (name, source) in sources {
            let added = self.environment.add_template_owned(name, source);
            added.map_err(|error| self.wrong(name, &error))?;
        }
        Ok(self)
    }

    /// The subject and the text.
    pub fn text(&self, about: &About) -> Result<(String, String), TemplateError> {
        let name = format!("{}.txt", about.kind.label());
        let text = self.render(&name, about, "")?;
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = first.strip_prefix("Subject:").map(one_line).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| TemplateError::NoSubject { file: self.file(&name) })?;
        let mut body = rest.trim_start_matches('\n').trim_end().to_owned();
        body.push('\n');
        Ok((subject, body))
    }

    pub fn html(&self, about: &About, subject: &str) -> Result<String, TemplateError> {
        self.render(&format!("{}.html", about.kind.label()), about, subject)
    }

    fn render(&self, name: &str, about: &About, subject: &str) -> Result<String, TemplateError> {
        self.page(name, Value::from(Serde(Seen { fields: about, about, subject })))
    }

    pub(crate) fn page(&self, name: &str, seen: Value) -> Result<String, TemplateError> {
        let template = self.environment.get_template(name).map_err(|error| self.wrong(name, &error))?;
        template.render(seen).map_err(|error| self.wrong(name, &error))
    }

    fn read(&self, path: &Path) -> Result<Option<String>, TemplateError> {
        let file = || path.display().to_string();
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > LONGEST_TEMPLATE => {
                return Err(TemplateError::TooLong { file: file() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let text = fs::read_to_string(path);
        text.map(Some).map_err(|source| TemplateError::Read { file: file(), source })
    }

    /// A file with a slip in its name would be left out in silence.
    fn check_names(&self, folder: &Path) -> Result<(), TemplateError> {
        let failed = |source| TemplateError::Read { file: folder.display().to_string(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let template = name.ends_with(".txt") || name.ends_with(".html");
            if template && !name.starts_with('.') && BUILT_IN.iter().all(|(known, _)| *known != name) {
                let known = BUILT_IN.map(|(known, _)| known).join(", ");
                return Err(TemplateError::Unknown { file: path.display().to_string(), known });
            }
        }
        Ok(())
    }

    /// The innermost cause names the place: a fault in `parts.html` is not one of the letter that uses it.
    fn wrong(&self, name: &str, error: &minijinja::Error) -> TemplateError {
        let mut place = error;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
        while let Some(found) = cause {
            if let Some(inner) = found.downcast_ref::<minijinja::Error>().filter(|e| e.line().is_some()) {
                place = inner;
            }
            cause = found.source();
        }
        let what = match place.detail() {
            Some(detail) => format!("{}: {detail}", place.kind()),
            None => place.kind().to_string(),
        };
        let what = match place.range().and_then(|range| self.excerpt(place.name().unwrap_or(name), range)) {
            Some(excerpt) if !what.contains(&excerpt) => format!("{what} (in `{excerpt}`)"),
            _ => what,
        };
        TemplateError::Wrong {
            file: self.file(place.name().unwrap_or(name)),
            line: place.line().unwrap_or(1),
            what,
        }
    }

    fn excerpt(&self, name: &str, range: std::ops::Range<usize>) -> Option<String> {
        let template = self.environment.get_template(name).ok()?;
        Some(template.source().get(range)?.chars().take(60).collect())
    }

    /// The operator's file if it is his, else the name.
    fn file(&self, name: &str) -> String {
        match self.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
            Some(path) => path.display().to_string(),
            None => name.to_owned(),
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
    });
    environment.set_debug(true);
    let blocks = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    match blocks {
        Ok(blocks) => environment.set_syntax(blocks),
        Err(error) => unreachable!("the delimiters are the usual ones: {error}"),
    }
    environment.add_filter("thousands", |number: u64| thousands(number));
    environment
}

/// A header's value: no line ends, no controls, not for ever.
fn one_line(subject: &str) -> String {
    let plain: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim().chars().take(LONGEST_SUBJECT).collect()
}
