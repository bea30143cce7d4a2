//! What the log's lines need of a request and of the tunnel that it may become. Nothing is kept while the log is off.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Version, header};
use time::OffsetDateTime;
use weir_config::Zone;

use super::{
    AccessLog,
    line::{Event, Line},
};
use crate::{
    observe::{outcome::TunnelEnd, request_id::RequestId},
    request::{reason::Reason, service::Client},
};

/// The longest part of a request that is logged; the rest is cut off. Bytes.
const LONGEST: usize = 1024;
/// nginx' status for a client that left before an answer.
const LEFT: u16 = 499;

/// A request as the log shows it.
#[derive(Debug)]
pub(crate) struct Visit {
    log: Arc<AccessLog>,
    id: RequestId,
    client: IpAddr,
    /// The socket's other end, if that is somebody else.
    peer: Option<IpAddr>,
    scheme: &'static str,
    method: Method,
    target: Box<str>,
    protocol: &'static str,
    host: Option<Box<str>>,
    referer: Option<Box<str>>,
    user_agent: Option<Box<str>>,
    begun: Instant,
    zone: Option<Arc<Zone>>,
    /// Of the answer that made a tunnel.
    switch_status: u16,
    /// There is a line of it.
    told: bool,
}

/// How a plain request ended.
pub(crate) struct Answer {
    pub status: u16,
    pub reason: Option<Reason>,
    pub sent_bytes: u64,
}

impl Visit {
    /// `None` if nothing is logged. `address` is whom the client is taken for.
    pub fn of<B>(
        log: &Arc<AccessLog>,
        client: &Client,
        address: IpAddr,
        request: &Request<B>,
        id: &RequestId,
    ) -> Option<Box<Self>> {
        if !log.is_on() {
            return None;
        }
        let headers = request.headers();
        let target = match request.uri().path_and_query() {
            Some(target) => clip(target.as_str()),
            None => clip(&request.uri().to_string()),
        };
        Some(Box::new(Self {
            log: log.clone(),
            id: id.clone(),
            client: address,
            peer: Some(client.socket_address.ip().to_canonical()).filter(|peer| *peer != address),
            scheme: client.scheme.as_str(),
            method: request.method().clone(),
            target,
            protocol: protocol(request.version()),
            host: request.uri().host().map(clip).or_else(|| text(headers, &header::HOST)),
            referer: text(headers, &header::REFERER),
            user_agent: text(headers, &header::USER_AGENT),
            begun: Instant::now(),
            zone: None,
            switch_status: 0,
            told: false,
        }))
    }

    pub fn is_of(&mut self, zone: &Arc<Zone>) {
        self.zone = Some(zone.clone());
    }

    pub fn switches(&mut self, status: StatusCode) {
        self.switch_status = status.as_u16();
    }

    fn line(&self, event: Event, status: u16) -> Line<'_> {
        Line {
            time: OffsetDateTime::now_utc(),
            event,
            zone: self.zone.as_ref().map(|zone| zone.name.as_str()),
            client: self.client,
            peer: self.peer,
            request_id: self.id.as_str(),
            scheme: self.scheme,
            host: self.host.as_deref(),
            method: self.method.as_str(),
            target: &self.target,
            protocol: self.protocol,
            status,
            reason: None,
            duration: self.begun.elapsed(),
            received_bytes: None,
            sent_bytes: 0,
            ended_by: None,
            referer: self.referer.as_deref(),
            user_agent: self.user_agent.as_deref(),
        }
    }

    /// A request has been answered.
    pub fn answered(&mut self, answer: &Answer) {
        self.told = true;
        self.log.write(|format| {
            let mut line = self.line(Event::Request, answer.status);
            line.reason = answer.reason.map(Reason::label);
            line.sent_bytes = answer.sent_bytes;
            line.write(format)
        });
    }

    /// A tunnel has opened. Its own time begins.
    pub fn opened(&mut self) {
        self.told = true;
        self.log.write(|format| self.line(Event::Open, self.switch_status).write(format));
        self.begun = Instant::now();
    }

    /// The tunnel has ended.
    pub fn ended(&self, (received, sent): (u64, u64), by: TunnelEnd) {
        self.log.write(|format| {
            let mut line = self.line(Event::End, self.switch_status);
            line.received_bytes = Some(received);
            line.sent_bytes = sent;
            line.ended_by = Some(by.label());
            line.write(format)
        });
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.told {
            self.log.write(|format| self.line(Event::Request, LEFT).write(format));
        }
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<Box<str>> {
    let value = headers.get(name)?.as_bytes();
    Some(clip(&String::from_utf8_lossy(&value[..value.len().min(LONGEST)])))
}

fn clip(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(LONGEST)].into()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
