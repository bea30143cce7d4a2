//! `[notices]`, and the addresses of customers.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{listeners::Listeners, proxy::duration};
use crate::{
    host::is_name,
    model::{
        Agent, Alertmanager, HttpUrl, InstanceName, Links, Mail, MailAddress, MailLogin, MailSecurity,
        Notices, Slack, Webhook,
    },
    raw::{ALERTMANAGER, MAIL, SLACK, Section, Value, WEBHOOK},
};

const SECURITY: [(&str, MailSecurity); 3] =
    [("starttls", MailSecurity::StartTls), ("tls", MailSecurity::Tls), ("none", MailSecurity::None)];
const EXAMPLE_URL: &str = "\"https://notices.example.com\"";
const EXAMPLE_ADDRESS: &str = "\"ops@example.com\"";
const LONGEST_ADDRESS: usize = 254;
const LONGEST_SENDER: usize = 100;
/// A mail server is given up on after five days by custom.
const RETRY_DAYS: u64 = 4;
/// Longer than a case's dialogue by its three notices and the grace.
const LINK_DAYS: u64 = 60;

pub(super) fn read(
    section: &Section<'_>,
    instance: &InstanceName,
    agent: &Agent,
    listeners: &mut Listeners,
) -> Notices {
    let second = Duration::from_secs(1);
    Notices {
        sender_name: sender_name(section).unwrap_or_else(|| instance.to_string()),
        templates: section.get("templates").and_then(|value| folder(&value)),
        timeout: duration(section, "timeout", second..=second * 120, second * 10),
        retry_days: days(section, "retry_days", 30, RETRY_DAYS),
        links: links(section, &agent.ledger, listeners),
        mail: table(section, "mail", &MAIL).map(|mail| read_mail(&mail)),
        webhook: table(section, "webhook", &WEBHOOK).map(|webhook| read_webhook(&webhook)),
        slack: table(section, "slack", &SLACK).map(|slack| read_slack(&slack)),
        alertmanager: table(section, "alertmanager", &ALERTMANAGER).map(|way| read_alertmanager(&way)),
    }
}

/// A customer's address.
pub(super) fn contact(value: &Value<'_>) -> Option<MailAddress> {
    mail_address("contact", value)
}

fn table<'a>(
    section: &Section<'a>,
    key: &'static str,
    keys: &'static crate::raw::Keys,
) -> Option<Section<'a>> {
    section.get(key).and_then(|value| value.section(keys))
}

fn sender_name(section: &Section<'_>) -> Option<String> {
    let value = section.get("sender_name")?;
    let name = value.text("\"Example Edge\"")?.trim();
    if name.is_empty() || name.chars().any(char::is_control) || name.chars().count() > LONGEST_SENDER {
        value.fault(
            format!("`sender_name` is {name:?}, which nobody can sign with"),
            format!("write one line of at most {LONGEST_SENDER} letters, for example \"Example Edge\""),
        );
    }
    Some(name.to_owned())
}

fn folder(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.path("\"/etc/weir/templates\"")?;
    if !path.is_dir() {
        value.fault(
            format!("`templates` is {}, which is no folder", path.display()),
            "create it, or remove the key: weir has templates of its own",
        );
    }
    Some(path)
}

fn days(section: &Section<'_>, key: &'static str, most: u64, default: u64) -> u32 {
    let days = section.get(key).and_then(|value| value.number(1..=most, default)).unwrap_or(default);
    u32::try_from(days).unwrap_or(u32::MAX)
}

fn links(section: &Section<'_>, ledger: &Path, listeners: &mut Listeners) -> Option<Links> {
    let days = days(section, "link_days", 366, LINK_DAYS);
    let keys = section.get("link_keys").and_then(|value| value.path("\"/var/lib/weir/links.keys\""));
    let keys = keys.unwrap_or_else(|| ledger.with_file_name("links.keys"));
    let url = section.get("link_url").and_then(|value| url("link_url", &value));
    let Some(value) = section.get("links") else {
        if section.get("link_url").is_some() {
            section.fault(
                "[notices] has `link_url`, and nothing answers there without `links`",
                "add links = \"127.0.0.1:9466\", the address that `link_url` leads to",
            );
        }
        return None;
    };
    let address = listeners.address(value.text("\"127.0.0.1:9466\"")?, &value, "links")?;
    if section.get("link_url").is_none() {
        value.fault(
            "`links` needs `link_url`: customers have to be told an address that they can reach",
            format!("add link_url = {EXAMPLE_URL}"),
        );
    }
    Some(Links { address, url: url?, days, keys })
}

fn read_mail(section: &Section<'_>) -> Mail {
    let security = section.get("security").and_then(|value| value.choice(&SECURITY));
    let security = security.unwrap_or(MailSecurity::StartTls);
    let server = section.required("server", "\"smtp.example.com:587\"");
    let server = server.and_then(|value| mail_server(&value, security));
    let (host, port) = server.unwrap_or_default();
    let from = section.required("from", EXAMPLE_ADDRESS).and_then(|value| mail_address("from", &value));
    Mail {
        host,
        port,
        security,
        login: login(section, security),
        from: from.unwrap_or_else(|| MailAddress("".into())),
        reply_to: section.get("reply_to").and_then(|value| mail_address("reply_to", &value)),
        ca: file(section, "ca"),
    }
}

fn mail_server(value: &Value<'_>, security: MailSecurity) -> Option<(String, u16)> {
    let text = value.text("\"smtp.example.com:587\"")?;
    let default_port = match security {
        MailSecurity::StartTls => 587,
        MailSecurity::Tls => 465,
        MailSecurity::None => 25,
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && (host.ends_with(']') || !host.contains(':')) => {
            (host, port.parse().ok().filter(|port| *port != 0))
        }
        _ => (text, Some(default_port)),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let good = is_name(bare) || bare.parse::<std::net::IpAddr>().is_ok();
    match port.filter(|_| good) {
        Some(port) => Some((bare.to_owned(), port)),
        None => {
            value.fault(
                format!("`server` is {text:?}, which is no host with a port"),
                "for example server = \"smtp.example.com:587\"",
            );
            None
        }
    }
}

fn login(section: &Section<'_>, security: MailSecurity) -> Option<MailLogin> {
    let user = section.get("user");
    let password_file = file(section, "password_file");
    let Some(value) = user else {
        if let Some(value) = section.get("password_file") {
            value.fault("`password_file` is there without `user`", "add user = \"weir\", or remove it");
        }
        return None;
    };
    if security == MailSecurity::None {
        value.fault(
            "`user` would send its password in the clear: `security` is \"none\"",
            "use security = \"starttls\" or \"tls\", or remove `user`",
        );
    }
    let user = value.text("\"weir\"")?.to_owned();
    if password_file.is_none() && section.get("password_file").is_none() {
        value.fault("`user` has no password", "add password_file = \"smtp.password\"");
    }
    Some(MailLogin { user, password_file: password_file? })
}

fn read_webhook(section: &Section<'_>) -> Webhook {
    let url = section.required("url", EXAMPLE_URL).and_then(|value| url("url", &value));
    Webhook {
        url: url.unwrap_or_else(|| HttpUrl("".into())),
        secret_file: file(section, "secret_file"),
        ca: file(section, "ca"),
    }
}

fn read_slack(section: &Section<'_>) -> Slack {
    section.required("url_file", "\"slack.url\"");
    Slack { url_file: file(section, "url_file").unwrap_or_default(), ca: file(section, "ca") }
}

fn read_alertmanager(section: &Section<'_>) -> Alertmanager {
    let example = "[\"http://127.0.0.1:9093\"]";
    let urls = section.required("urls", example);
    let texts = urls.as_ref().and_then(|value| value.texts(example));
    if let (Some(value), Some([])) = (&urls, texts.as_deref()) {
        value.fault("`urls` is empty: no alert would reach anybody", format!("for example urls = {example}"));
    }
    let urls = texts.unwrap_or_default();
    Alertmanager {
        urls: urls.iter().filter_map(|(_, value)| url("urls", value)).collect(),
        token_file: file(section, "token_file"),
        ca: file(section, "ca"),
    }
}

/// A file that has to be there, and is read when it is needed: what is in it may be changed at any time.
fn file(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let value = section.get(key)?;
    let path = value.path("\"secret\"")?;
    if let Err(error) = std::fs::File::open(&path) {
        value.fault(
            format!("`{key}` is {}, which cannot be read: {error}", path.display()),
            "create it, readable for the agent only (mode 0600), or correct the path",
        );
    }
    Some(path)
}

fn url(key: &str, value: &Value<'_>) -> Option<HttpUrl> {
    let text = value.text(EXAMPLE_URL)?;
    match wrong_url(text) {
        None => Some(HttpUrl(text.trim_end_matches('/').into())),
        Some(why) => {
            value.fault(format!("`{key}` is {text:?}, which {why}"), format!("for example {EXAMPLE_URL}"));
            None
        }
    }
}

fn wrong_url(text: &str) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Some("begins with neither https:// nor http://");
    };
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\')) {
        return Some("has letters that no address on the web has");
    }
    if text.contains(['?', '#']) {
        return Some("has a query or a fragment");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Some("has a user in it, whose password all could read");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if !is_name(bare) && bare.parse::<std::net::IpAddr>().is_err() {
        return Some("has no valid host");
    }
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    (!good_port).then_some("has a port that is not a number from 1 to 65535")
}

fn mail_address(key: &str, value: &Value<'_>) -> Option<MailAddress> {
    let text = value.text(EXAMPLE_ADDRESS)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let good = text.rsplit_once('@').is_some_and(|(name, host)| {
        let dots = name.starts_with('.') || name.ends_with('.') || name.contains("..");
        !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !dots && is_name(host)
    });
    if good && text.len() <= LONGEST_ADDRESS {
        return Some(MailAddress(text.into()));
    }
    value.fault(
        format!("`{key}` is {text:?}, which is no mail address"),
        format!("write one address and nothing else, for example {EXAMPLE_ADDRESS}"),
    );
    None
}
