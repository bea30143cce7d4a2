//! The way of a request: its host, the zone of that host, the kernel's books, then an upgrade or a plain request.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use http::{Method, Request, Response, header::HOST};
use tokio::time;
use tracing::{debug, warn};
use weir_config::{Zone, ZoneName};

use crate::{
    accounting::books::{Books, Turned},
    downstream::{
        connection::Switch,
        pace::Limits,
        stream::{Descriptor, Peer},
    },
    firewall::{
        facts::{Facts, TlsFacts, WorkedOut},
        managed::Head,
    },
    observe::{exchange::Exchange, rare::Rarely, request_id::RequestId},
    request::{
        body::ResponseBody,
        chain::is_trusted,
        content::Content,
        forward,
        forwarded::{Said, Scheme},
        handshake::Handshake,
        headers,
        reason::Reason,
        refusal::Refused,
        target::{self, Target},
        upgrade,
    },
    server::{
        Shared,
        routes::{Route, Snapshot},
    },
    upstream::{Call, DialError, Introduction, Member, Stream, Unconnected},
};

/// Who is at the other end of a connection.
pub(crate) struct Client {
    /// The connection's other end, as a PROXY protocol header says where one is due. It is the one that speaks HTTP with us, so
    /// it is its headers that are believed or not: whoever sends the PROXY protocol passes on what others say.
    pub address: SocketAddr,
    /// The socket's other end, as the kernel has it.
    pub socket_address: SocketAddr,
    /// Our end of the connection.
    pub local_address: SocketAddr,
    pub scheme: Scheme,
    /// The zone that the TLS handshake named, if it has a certificate of its own.
    pub zone: Option<ZoneName>,
    /// What that handshake settled.
    pub tls: Option<TlsFacts>,
    pub books: Books,
    pub peer: Peer,
    pub limits: Limits,
}

impl Client {
    /// Whether the connection is for this zone. One by the default certificate is for all zones that have no other.
    fn may_ask(&self, route: &Route) -> bool {
        match &self.zone {
            Some(zone) => *zone == route.zone.name,
            None => self.scheme == Scheme::Http || !route.has_certificate(),
        }
    }
}

/// Why a request gets no answer of an origin.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Refused),
    /// The client's socket is closed.
    Gone,
}

impl Stop {
    /// What follows from a socket that the books turned away.
    pub fn of(turned: Turned, zone: &Arc<Zone>) -> Self {
        match turned {
            Turned::Away(refusal) => Self::Refused(Refused::of(Reason::of_kernel(refusal), zone)),
            Turned::Uncounted => Self::Refused(Refused::of(Reason::AccountingUnavailable, zone)),
            Turned::Gone => Self::Gone,
        }
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(Refused::new(reason))
    }
}

/// The client's socket is closed: nobody is left to be answered.
#[derive(Debug, thiserror::Error)]
#[error("the client has gone")]
pub(crate) struct Gone;

/// A connection to an origin, and whose it is.
pub(crate) struct Dialled {
    pub stream: Stream,
    /// To be told what comes of it.
    pub origin: Arc<Member>,
}

/// A request whose zone is known and in whose books the client's socket is.
pub(crate) struct Routed<'a> {
    pub client: &'a Client,
    pub shared: &'a Shared,
    pub snapshot: &'a Snapshot,
    pub route: &'a Route,
    pub target: Target,
    pub switch: &'a Switch,
    /// What the request says about its way, and by it who the client is: not the connection's other end if that is a trusted
    /// proxy.
    pub said: Said,
    /// The client as a PROXY protocol header names it.
    pub introduction: Introduction,
}

impl Routed<'_> {
    pub fn refused(&self, reason: Reason) -> Stop {
        Stop::Refused(Refused::of(reason, &self.route.zone))
    }

    /// Connects to one of the zone's origins, the next in turn that takes the connection. `on_socket` is called with each socket before it connects; what it returns comes with the
    /// connection, or is dropped with a socket that does not connect.
    pub async fn dial<A, E>(
        &self,
        on_socket: impl Fn(&Arc<Descriptor>) -> Result<A, E>,
    ) -> Result<(Dialled, A), Unconnected<E>> {
        let call = self.call(time::Instant::now() + self.connect_timeout());
        let mut last = DialError::Timeout;
        for origin in self.route.origins.candidates(time::Instant::now()) {
            match origin.endpoint.dial(&call, &on_socket).await {
                Ok((stream, given)) => return Ok((Dialled { stream, origin: origin.clone() }, given)),
                Err(Unconnected::OnSocket(said)) => return Err(Unconnected::OnSocket(said)),
                Err(Unconnected::Dial(error)) => last = error,
            }
            let zone = self.route.zone.name.as_str();
            debug!(zone, origin = %origin.endpoint, error = %last, "no connection to an origin");
            self.shared.counters.undialled(&last);
            if !last.is_of_host() {
                origin.failed(time::Instant::now());
            }
            if !last.is_for_another() {
                break;
            }
        }
        Err(last.into())
    }

    /// How long connects to origins may take, all that one request needs together.
    pub fn connect_timeout(&self) -> Duration {
        self.route.zone.timeouts.connect
    }

    /// What a dial for this request needs to know.
    pub fn call(&self, deadline: time::Instant) -> Call {
        Call { names: self.snapshot.names.clone(), client: self.introduction, deadline }
    }

    /// Tells the origin about the client, as configured, and about this proxy.
    pub fn introduce(&self, headers: &mut http::HeaderMap, version: http::Version) {
        let style = self.snapshot.settings.forwarded;
        self.said.tell(headers, style, self.client.scheme, &self.target.header);
        if let Some(host) = &self.route.origin_host {
            headers.insert(HOST, host.clone());
        }
        self.shared.via.append(headers, version);
    }
}

static ORIGIN_FAILED: Rarely = Rarely::new();

/// The requests of one connection.
pub(crate) struct Requests {
    client: Client,
    shared: Arc<Shared>,
}

impl Requests {
    pub fn new(client: Client, shared: Arc<Shared>) -> Self {
        Self { client, shared }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Answers a request. If it becomes a WebSocket, the origin's side of it is left in `switch`.
    pub async fn answer(
        &self,
        mut request: Request<Content>,
        switch: &Switch,
    ) -> Result<Response<ResponseBody>, Gone> {
        let shared = &*self.shared;
        let begun = Instant::now();
        let snapshot = shared.routes.load_full();
        let peer = self.client.address.ip().to_canonical();
        let settings = &snapshot.settings;
        let said = Said::read(request.headers(), settings.forwarded, peer, &settings.trusted_proxies);
        let id = shared.ids.name(request.headers_mut(), is_trusted(peer, &settings.trusted_proxies));
        let mut exchange = Exchange::begin(shared, &self.client, said.client, &request, &id);
        let mut response = match self.serve(request, &id, said, &snapshot, switch, &mut exchange).await {
            Ok(response) => {
                match &mut *switch.lock().unwrap_or_else(PoisonError::into_inner) {
                    // HTTP/2 has a 200 for it.
                    Some(switched) => {
                        shared.counters.upgrade_time.add(begun.elapsed());
                        switched.visit = exchange.switched(response.status());
                    }
                    None => exchange.answered(response.status(), None),
                }
                response
            }
            Err(Stop::Gone) => return Err(Gone),
            Err(Stop::Refused(refused)) => {
                shared.counters.refuse(refused.reason);
                let zone = refused.zone.as_ref().map(|zone| zone.name.as_str());
                let reason = refused.reason.label();
                let rule = refused.block.as_ref().map(|block| block.rule.as_str());
                debug!(client = %self.client.address, reason, zone, rule, "request refused");
                if refused.reason.is_of_origin() {
                    ORIGIN_FAILED.then(|| {
                        warn!(reason, zone, "an origin failed a request; the counters say how often")
                    });
                }
                let response = refused.response(snapshot.settings.retry_after, id.as_str());
                exchange.answered(response.status(), Some(refused.reason));
                response
            }
        };
        id.put(response.headers_mut());
        Ok(response.map(|body| body.of(exchange)))
    }

    async fn serve(
        &self,
        request: Request<Content>,
        id: &RequestId,
        said: Said,
        snapshot: &Snapshot,
        switch: &Switch,
        exchange: &mut Exchange,
    ) -> Result<Response<ResponseBody>, Stop> {
        let client = &self.client;
        // Before anything else: where its content ends is not known, so no other answer may leave the connection open.
        if headers::has_foreign_coding(request.headers()) {
            return Err(Reason::CodingNotSupported.into());
        }
        let handshake = Handshake::of(&request)?;
        let target = Target::of(&request, client.scheme)?;
        let route = snapshot.find(&target.host).ok_or(Reason::HostUnknown)?;
        if !client.may_ask(route) {
            return Err(Reason::HostNotOfConnection.into());
        }
        client.limits.keep_to(&route.zone.timeouts);
        exchange.is_of(route);
        if self.shared.via.is_loop(request.headers()) {
            return Err(Stop::Refused(Refused::of(Reason::Loop, &route.zone)));
        }
        let accounted = client.books.attribute(route.key, snapshot.settings.accounting);
        accounted.map_err(|turned| Stop::of(turned, &route.zone))?;

        // Nobody knows the port of a client behind a proxy.
        let port = if said.client == client.address.ip().to_canonical() { client.address.port() } else { 0 };
        self.pass(&request, snapshot, route, &target, handshake.is_some(), said.client)?;
        let local = client.local_address;
        let head = || Head {
            id: id.as_str().to_owned(),
            client: (said.client, port),
            local: (local.ip().to_canonical(), local.port()),
            method: asked_of_origin(&request, handshake.is_some()).clone(),
            target: target::origin_form(request.uri()).to_string(),
            version: request.version(),
            headers: request.headers().clone(),
        };
        let inspected = snapshot.firewall.inspect(&route.rules.managed, route.zone.name.as_str(), head);
        inspected.await.map_err(|block| Stop::Refused(Refused::blocked(block, &route.zone)))?;
        let introduction = Introduction::new((said.client, port).into(), client.local_address);
        let routed =
            Routed { client, shared: &self.shared, snapshot, route, target, switch, said, introduction };
        if let Some(reason) = handshake.and_then(|handshake| handshake.fault(request.headers())) {
            return Err(routed.refused(reason));
        }
        match handshake {
            Some(handshake) => upgrade::serve(routed, request, handshake).await,
            None => forward::serve(routed, request).await,
        }
    }

    /// Asks all of the firewall that answers at once.
    fn pass(
        &self,
        request: &Request<Content>,
        snapshot: &Snapshot,
        route: &Route,
        target: &Target,
        websocket: bool,
        address: IpAddr,
    ) -> Result<(), Stop> {
        let facts = Facts {
            method: asked_of_origin(request, websocket),
            raw_path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: request.headers(),
            host: &target.host,
            zone: route.zone.name.as_str(),
            address,
            tls: self.client.tls.as_ref(),
            version: request.version(),
            websocket,
            countries: snapshot.firewall.countries.as_ref(),
            worked_out: WorkedOut::default(),
        };
        let checked = snapshot.firewall.check(&route.rules, &facts);
        checked.map_err(|block| Stop::Refused(Refused::blocked(block, &route.zone)))
    }
}

/// The method that the origin gets: a WebSocket is asked for with GET, also where the client's HTTP/2 has CONNECT for it.
fn asked_of_origin<B>(request: &Request<B>, websocket: bool) -> &Method {
    if websocket { &Method::GET } else { request.method() }
}
