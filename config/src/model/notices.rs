//! `[notices]`.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// How people are written to. Secrets are in files of their own, which are read when they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notices {
    /// Who writes, as customers read it; default the instance's name.
    pub sender_name: String,
    /// A folder with templates in place of weir's own; default none.
    pub templates: Option<PathBuf>,
    /// One attempt, from the connection to the answer; default 10 s.
    pub timeout: Duration,
    /// After so many days a message that could not be delivered is given up; default 4.
    pub retry_days: u32,
    /// The pages that links in letters lead to; default none, and then letters have no links.
    pub links: Option<Links>,
    pub mail: Option<Mail>,
    pub webhook: Option<Webhook>,
    pub slack: Option<Slack>,
    pub alertmanager: Option<Alertmanager>,
}

/// `links` and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    pub address: SocketAddr,
    /// What customers reach `address` by, without a slash at its end.
    pub url: HttpUrl,
    /// How long a link is good; default 60 days.
    pub days: u32,
    /// The keys that sign them; default `links.keys` beside the ledger.
    pub keys: PathBuf,
}

/// `mail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
    pub login: Option<MailLogin>,
    pub from: MailAddress,
    pub reply_to: Option<MailAddress>,
    /// Certificates to trust in place of the system's.
    pub ca: Option<PathBuf>,
}

/// `security` of `mail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// STARTTLS, and nothing without it.
    StartTls,
    /// TLS from the first byte on.
    Tls,
    /// For a server on the same host.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailLogin {
    pub user: String,
    pub password_file: PathBuf,
}

/// `webhook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub url: HttpUrl,
    /// The key of the signature; default none, and then there is no signature.
    pub secret_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
}

/// `slack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slack {
    /// The address of an incoming webhook is a secret.
    pub url_file: PathBuf,
    pub ca: Option<PathBuf>,
}

/// `alertmanager`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alertmanager {
    /// Each of a cluster.
    pub urls: Vec<HttpUrl>,
    /// A bearer token.
    pub token_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
}

/// `http://` or `https://`, a host, perhaps a port and a path; no user, no query, no fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(pub(crate) Arc<str>);

/// `name@host` in visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailAddress(pub(crate) Arc<str>);

impl HttpUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MailAddress {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn host(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, host)| host)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
