//! SMTP: STARTTLS or TLS from the start, a login if there is one, one message a connection.
//!
//! The `Message-ID` is made of the idempotency key, so a letter that is sent again is the same letter to whoever gets it. What the
//! server says decides: 2xx took it, 4xx is worth another try, 5xx is a refusal. An end of the connection without a word after the
//! content was sent leaves open whether it was taken: it is tried again, under the same `Message-ID`.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        self,
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        extension::ClientId,
    },
};
use time::OffsetDateTime;
use weir_config::{Mail, MailAddress, MailSecurity};

use super::{Outcome, WayError, one_line, secret, trust};
use crate::letter::{Letter, PLOT_ID};

pub struct Mailer {
    way: Mail,
    sender_name: String,
    timeout: Duration,
}

impl Mailer {
    pub fn new(way: &Mail, sender_name: &str, timeout: Duration) -> Self {
        Self { way: way.clone(), sender_name: sender_name.to_owned(), timeout }
    }

    /// One attempt. `at` is when the notice was queued, and so the letter's date.
    pub async fn send(&self, key: &str, to: &MailAddress, letter: &Letter, at: OffsetDateTime) -> Outcome {
        let message = match self.message(key, to, letter, at) {
            Ok(message) => message,
            Err(error) => return Outcome::Refused { why: one_line(&error.in_words()) },
        };
        let server = match self.server() {
            Ok(server) => server,
            // A person can mend it: the letter is not at fault.
            Err(error) => return Outcome::Retry { after: None, why: one_line(&error.in_words()) },
        };
        // lettre's own limit is one for each step.
        match tokio::time::timeout(self.timeout * 3, server.send(message)).await {
            Ok(Ok(response)) => {
                Outcome::Delivered { reference: one_line(&response.message().collect::<Vec<_>>().join(" ")) }
            }
            Ok(Err(error)) => refused_or_not(&error),
            Err(_) => Outcome::Retry { after: None, why: "the mail server took too long".to_owned() },
        }
    }

    /// The `Message-ID` of a key.
    pub fn message_id(&self, key: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
        format!("<{}@{}>", key.chars().map(plain).collect::<String>(), self.way.from.host())
    }

    fn message(
        &self,
        key: &str,
        to: &MailAddress,
        letter: &Letter,
        at: OffsetDateTime,
    ) -> Result<Message, WayError> {
        let mut message = Message::builder()
            .message_id(Some(self.message_id(key)))
            .date(at.into())
            .from(mailbox(Some(&self.sender_name), &self.way.from)?)
            .to(mailbox(None, to)?)
            .subject(letter.subject.as_str())
            .raw_header(HeaderValue::new(AUTO_SUBMITTED, "auto-generated".to_owned()));
        if let Some(reply_to) = &self.way.reply_to {
            message = message.reply_to(mailbox(None, reply_to)?);
        }
        let plot = Attachment::new_inline_with_name(PLOT_ID.to_owned(), "evidence.png".to_owned())
            .body(Body::new(letter.plot_png.clone()), png());
        let html = MultiPart::related()
            .boundary(format!("weir-related-{}", token(key)))
            .singlepart(text(ContentType::TEXT_HTML, &letter.html))
            .singlepart(plot);
        let both = MultiPart::alternative()
            .boundary(format!("weir-alternative-{}", token(key)))
            .singlepart(text(ContentType::TEXT_PLAIN, &letter.text))
            .multipart(html);
        message.multipart(both).map_err(|_| WayError::Address { address: to.to_string() })
    }

    fn server(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, WayError> {
        let Mail { host, port, security, login, from, .. } = &self.way;
        let tls = match security {
            MailSecurity::StartTls => Tls::Required(self.tls()?),
            MailSecurity::Tls => Tls::Wrapper(self.tls()?),
            MailSecurity::None => Tls::None,
        };
        let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str())
            .port(*port)
            .tls(tls)
            .hello_name(ClientId::Domain(from.host().to_owned()))
            .timeout(Some(self.timeout));
        if let Some(login) = login {
            let password = secret::line(&login.password_file)?;
            server = server.credentials(Credentials::new(login.user.clone(), password));
        }
        Ok(server.build())
    }

    fn tls(&self) -> Result<TlsParameters, WayError> {
        let wrong = |error: smtp::Error| WayError::Tls { why: error.to_string() };
        let mut tls = TlsParameters::builder(self.way.host.clone());
        if let Some(ca) = &self.way.ca {
            tls = tls.certificate_store(CertificateStore::None);
            for certificate in trust::certificates(ca)? {
                tls = tls.add_root_certificate(Certificate::from_der(certificate.to_vec()).map_err(wrong)?);
            }
        }
        tls.build_rustls().map_err(wrong)
    }
}

/// RFC 3834: nobody's out-of-office answers it.
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

fn refused_or_not(error: &smtp::Error) -> Outcome {
    let mut why = error.to_string();
    if let Some(source) =
        std::error::Error::source(error).map(ToString::to_string).filter(|s| !why.contains(s))
    {
        why = format!("{why}: {source}");
    }
    let why = one_line(&why);
    // What the server will not take from us at all (no login, no TLS) is a person's to mend, and no word on the letter.
    let about_us =
        error.status().is_some_and(|code| matches!(code.to_string().as_str(), "530" | "534" | "535" | "538"));
    if error.is_permanent() && !about_us {
        Outcome::Refused { why }
    } else {
        Outcome::Retry { after: None, why }
    }
}

fn mailbox(name: Option<&str>, address: &MailAddress) -> Result<Mailbox, WayError> {
    let wrong = |_| WayError::Address { address: address.to_string() };
    Ok(Mailbox::new(name.map(str::to_owned), address.as_str().parse().map_err(wrong)?))
}

/// Quoted-printable: lines of any length, letters of any script, through any server.
fn text(kind: ContentType, text: &str) -> SinglePart {
    let body = Body::new_with_encoding(text.to_owned(), ContentTransferEncoding::QuotedPrintable);
    let body = body.unwrap_or_else(Body::new);
    SinglePart::builder().header(kind).body(body)
}

fn png() -> ContentType {
    ContentType::parse("image/png").unwrap_or(ContentType::TEXT_PLAIN)
}

/// A boundary that no line of a letter is.
fn token(key: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(key).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
