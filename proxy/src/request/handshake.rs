//! How a client asks for a WebSocket, and what its origin is asked instead.
//!
//! Origins are spoken to in HTTP/1.1, with an upgrade (RFC 6455, 4). A client of HTTP/1.1 has made that handshake itself: its key
//! goes on, and the origin's answer to it is the client's to check. Extended CONNECT of HTTP/2 has no key (RFC 8441, 5), so there
//! the key is made here and the answer to it checked here: an origin that answers any GET with a 101 opens no WebSocket.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
    request, response,
};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};

use crate::request::{headers, reason::Reason};

/// RFC 6455, 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How a client asks for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    Upgrade,
    /// Of HTTP/2.
    ExtendedConnect,
}

/// What the origin has to answer.
pub(crate) enum Offer {
    Upgrade,
    ExtendedConnect { accept: String },
}

impl Handshake {
    /// `None` is a plain request. CONNECT for anything else than a WebSocket is refused.
    pub fn of<B>(request: &Request<B>) -> Result<Option<Self>, Reason> {
        if request.method() != Method::CONNECT {
            return Ok(headers::is_websocket_request(request).then_some(Self::Upgrade));
        }
        let protocol = request.extensions().get::<h2::ext::Protocol>();
        match protocol.is_some_and(|protocol| protocol.as_str() == headers::WEBSOCKET) {
            true => Ok(Some(Self::ExtendedConnect)),
            false => Err(Reason::MethodNotSupported),
        }
    }

    /// What is wrong with the request. It is refused here, and not by the origin alone: an origin that takes it for a plain
    /// request must never be at the other end of a tunnel.
    pub fn fault(self, headers: &HeaderMap) -> Option<Reason> {
        headers::version_fault(headers).or_else(|| match self {
            Self::Upgrade => headers::key_fault(headers),
            // It needs no key of the client's (RFC 8441, 5).
            Self::ExtendedConnect => None,
        })
    }

    /// Makes the client's request the one that its origin gets.
    pub fn offer(self, parts: &mut request::Parts) -> Result<Offer, Reason> {
        headers::prepare_upgrade(&mut parts.headers);
        parts.version = Version::HTTP_11;
        match self {
            Self::Upgrade => Ok(Offer::Upgrade),
            Self::ExtendedConnect => {
                let mut nonce = [0; 16];
                SystemRandom::new().fill(&mut nonce).map_err(|_| Reason::HostExhausted)?;
                let key = STANDARD.encode(nonce);
                let accept = accept(&key);
                parts.method = Method::GET;
                // Base64 is always a value.
                let key = HeaderValue::try_from(key).map_err(|_| Reason::HostExhausted)?;
                parts.headers.insert(SEC_WEBSOCKET_KEY, key);
                // Of a CONNECT it says nothing, and a GET with it would wait for content.
                parts.headers.remove(CONTENT_LENGTH);
                Ok(Offer::ExtendedConnect { accept })
            }
        }
    }
}

impl Offer {
    /// The origin's answer makes a WebSocket.
    pub fn is_taken<B>(&self, response: &Response<B>) -> bool {
        headers::is_websocket_switch(response)
            && match self {
                Self::Upgrade => true,
                Self::ExtendedConnect { accept } => {
                    let mut answers = response.headers().get_all(SEC_WEBSOCKET_ACCEPT).iter();
                    answers.next().is_some_and(|answer| answer.as_bytes() == accept.as_bytes())
                        && answers.next().is_none()
                }
            }
    }

    /// The origin declines. Not every answer may be passed on: to a client of extended CONNECT a 2xx is a WebSocket.
    pub fn is_declined(&self, status: StatusCode) -> bool {
        match self {
            Self::Upgrade => status != StatusCode::SWITCHING_PROTOCOLS,
            Self::ExtendedConnect { .. } => status != StatusCode::SWITCHING_PROTOCOLS && !status.is_success(),
        }
    }

    /// Makes the origin's 101 the client's answer.
    pub fn answer(&self, parts: &mut response::Parts) {
        match self {
            Self::Upgrade => {
                headers::prepare_switch(&mut parts.headers);
                parts.version = Version::HTTP_11;
            }
            Self::ExtendedConnect { .. } => {
                headers::strip_hop_by_hop(&mut parts.headers);
                parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
                parts.headers.remove(CONTENT_LENGTH);
                parts.status = StatusCode::OK;
                parts.version = Version::HTTP_2;
            }
        }
    }
}

/// The right answer to a key (RFC 6455, 4.2.2).
fn accept(key: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn of_connect_only_websocket_is_served() {
        let ask = |protocol: Option<&'static str>| {
            let mut request = Request::new(());
            *request.method_mut() = Method::CONNECT;
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
            }
            Handshake::of(&request)
        };
        assert_eq!(ask(Some("websocket")), Ok(Some(Handshake::ExtendedConnect)));
        for other in [None, Some("connect-udp"), Some("WebSocket"), Some("")] {
            assert_eq!(ask(other), Err(Reason::MethodNotSupported), "{other:?}");
        }
        assert_eq!(Handshake::of(&Request::new(())), Ok(None));
    }

    #[test]
    fn each_offer_has_a_key_of_its_own_and_only_its_answer_takes_it() {
        let offer = || {
            let (mut parts, ()) = Request::new(()).into_parts();
            parts.headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("the client's"));
            let offer = Handshake::ExtendedConnect.offer(&mut parts).expect("an offer");
            (parts.headers[SEC_WEBSOCKET_KEY].to_str().expect("text").to_owned(), offer)
        };
        let ((key, offered), (other, _)) = (offer(), offer());
        assert_ne!(key, other);
        let taken = |answers: &[&str]| {
            let mut response = Response::builder()
                .status(101)
                .header("upgrade", "websocket")
                .header("connection", "Upgrade");
            for answer in answers {
                response = response.header(SEC_WEBSOCKET_ACCEPT, *answer);
            }
            offered.is_taken(&response.body(()).expect("a response"))
        };
        assert!(taken(&[&accept(&key)]));
        assert!(!taken(&[]) && !taken(&[&accept(&other)]) && !taken(&[&accept(&key), "x"]));
    }
}
