//! Addresses of origins that are given by name, for as long as the DNS says that they hold.
//!
//! A name is asked for when a connection needs it: first `/etc/hosts`, then the DNS. The answer is kept as long as its TTL
//! says, within [`TTL`]; that there is none, within [`NO_TTL`]. Many that need the same name at once wait for one question. If
//! the DNS fails, the last answer is used on for [`STALE`], and nobody waits for longer than [`PATIENCE`] for a better one.
//!
//! Families alternate (RFC 8305, 4), beginning with the one by which the last connection came up; within a family the
//! addresses take turns.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant as StdInstant},
};

use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    },
    net::{NetError, runtime::TokioRuntimeProvider},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use crate::observe::rare::Rarely;

/// How long an answer is kept, whatever its TTL.
const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// How long the answer that there is no address is kept, whatever its TTL.
const NO_TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// How long the last answer is used on while the DNS fails.
const STALE: Duration = Duration::from_secs(3600);
/// How long somebody waits for the DNS who has an old answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two questions while the DNS fails.
const RETRY: Duration = Duration::from_secs(1);
/// Answers that the resolver remembers.
const REMEMBERED: u64 = 16_384;

static FAILED: Rarely = Rarely::new();

/// Whom to ask.
pub(crate) struct Names {
    /// Of the configuration; none is the system's.
    servers: Vec<SocketAddr>,
    /// Different for every one, so that what another has answered is asked again.
    id: u64,
    resolver: OnceLock<Result<TokioResolver, NetError>>,
}

impl Names {
    pub fn new(servers: Vec<SocketAddr>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self { servers, id: NEXT.fetch_add(1, Relaxed), resolver: OnceLock::new() })
    }

    /// Those of a configuration. The system's are read anew, which is how a change of them comes into force.
    pub fn of(servers: &[SocketAddr], previous: Option<&Arc<Self>>) -> Arc<Self> {
        let same = previous.filter(|names| !servers.is_empty() && names.servers == servers);
        same.cloned().unwrap_or_else(|| Self::new(servers.to_vec()))
    }

    async fn ask(&self, name: &str) -> Result<(Vec<IpAddr>, StdInstant), NetError> {
        let resolver =
            self.resolver.get_or_init(|| resolver(&self.servers)).as_ref().map_err(Clone::clone)?;
        let found = resolver.lookup_ip(name).await?;
        Ok((found.iter().collect(), found.valid_until()))
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|server| {
            let port = |mut config: ConnectionConfig| {
                config.port = server.port();
                config
            };
            let ways = vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())];
            NameServerConfig::new(server.ip(), true, ways)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = ResolverOpts::default();
        builder
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.use_hosts_file = ResolveHosts::Always;
    options.cache_size = REMEMBERED;
    (options.positive_min_ttl, options.positive_max_ttl) = (Some(*TTL.start()), Some(*TTL.end()));
    (options.negative_min_ttl, options.negative_max_ttl) = (Some(*NO_TTL.start()), Some(*NO_TTL.end()));
    builder.build()
}

/// What is known of one name.
pub(super) struct Known {
    name: Arc<str>,
    state: Mutex<State>,
    /// IPv4 is tried first.
    v4_first: AtomicBool,
    turn: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Of the [`Names`] that answered.
    by: u64,
    /// Never empty; when it is to be asked for again; when it may not be used any more.
    answer: Option<(Arc<[IpAddr]>, Instant, Instant)>,
    /// Why there is no answer, or no newer one, and until when that is not asked again.
    failed: Option<(NetError, Instant)>,
    /// The question that is on its way, and since when.
    asking: Option<(watch::Receiver<()>, Instant)>,
}

/// What a look at the state says.
enum Look {
    Answer(Arc<[IpAddr]>),
    Failed(NetError),
    /// There is a question to wait for; with an old answer only until this time.
    Wait(watch::Receiver<()>, Option<Instant>),
    /// Somebody has to ask.
    Ask(watch::Sender<()>),
}

impl Known {
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            state: Mutex::default(),
            v4_first: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection came up to an address of this family.
    pub fn connected(&self, address: IpAddr) {
        self.v4_first.store(address.is_ipv4(), Relaxed);
    }

    /// The addresses, in the order in which to try them; at least one.
    pub async fn addresses(
        self: &Arc<Self>,
        names: &Arc<Names>,
        deadline: Instant,
    ) -> io::Result<Vec<IpAddr>> {
        loop {
            match self.look(names.id, Instant::now()) {
                Look::Answer(answer) => return Ok(self.order(&answer)),
                Look::Failed(error) => return Err(io::Error::new(io::ErrorKind::NotFound, error)),
                Look::Ask(done) => {
                    let (known, names) = (self.clone(), names.clone());
                    // Whoever waits for it may leave before it is answered.
                    tokio::spawn(async move {
                        let answer = names.ask(&known.name).await;
                        known.learn(names.id, answer, Instant::now());
                        drop(done);
                    });
                }
                Look::Wait(mut done, patience) => {
                    let until = patience.unwrap_or(deadline).min(deadline);
                    // An error says that the question is through.
                    if timeout_at(until, done.changed()).await.is_err() && until == deadline {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
        }
    }

    fn look(&self, by: u64, now: Instant) -> Look {
        let mut state = self.state();
        if state.by != by {
            // Another resolver may know better. The old answer stays usable while it is asked.
            state.by = by;
            (state.failed, state.asking) = (None, None);
            if let Some((_, fresh, _)) = &mut state.answer {
                *fresh = now;
            }
        }
        let old = match &state.answer {
            Some((answer, fresh, _)) if now < *fresh => return Look::Answer(answer.clone()),
            Some((answer, _, usable)) if now < *usable => Some(answer.clone()),
            _ => None,
        };
        if let Some((error, _)) = state.failed.as_ref().filter(|(_, until)| now < *until) {
            return old.map_or_else(|| Look::Failed(error.clone()), Look::Answer);
        }
        // A question whose task was lost has no sender any more.
        if let Some((asking, since)) =
            state.asking.as_ref().filter(|(asking, _)| asking.has_changed().is_ok())
        {
            let patience = *since + PATIENCE;
            return match old {
                Some(old) if patience <= now => Look::Answer(old),
                Some(_) => Look::Wait(asking.clone(), Some(patience)),
                None => Look::Wait(asking.clone(), None),
            };
        }
        let (sender, receiver) = watch::channel(());
        state.asking = Some((receiver, now));
        Look::Ask(sender)
    }

    fn learn(&self, by: u64, answer: Result<(Vec<IpAddr>, StdInstant), NetError>, now: Instant) {
        let mut state = self.state();
        if state.by != by {
            return;
        }
        state.asking = None;
        match answer {
            Ok((addresses, valid_until)) if !addresses.is_empty() => {
                let ttl = valid_until.saturating_duration_since(StdInstant::now());
                let fresh = now + ttl.clamp(*TTL.start(), *TTL.end());
                debug!(name = %self.name, ?addresses, ?ttl, "a name is resolved");
                state.answer = Some((addresses.into(), fresh, fresh + STALE));
                state.failed = None;
            }
            Ok(_) => state.failed = Some((NetError::Message("the name has no address"), now + RETRY)),
            Err(error) => {
                // That there is no such name is an answer; that nobody answers is none.
                if error.is_no_records_found() {
                    state.answer = None;
                } else {
                    FAILED.then(|| warn!(name = %self.name, %error, "a name cannot be resolved; old answers are used on"));
                }
                state.failed = Some((error, now + RETRY));
            }
        }
    }

    fn order(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let turn = self.turn.fetch_add(1, Relaxed);
        let (mut v4, mut v6): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(IpAddr::is_ipv4);
        for family in [&mut v4, &mut v6] {
            if !family.is_empty() {
                let first = turn % family.len();
                family.rotate_left(first);
            }
        }
        let (first, second) = if self.v4_first.load(Relaxed) { (v4, v6) } else { (v6, v4) };
        let mut order = Vec::with_capacity(addresses.len());
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        loop {
            let pair = [first.next(), second.next()];
            if pair == [None, None] {
                return order;
            }
            order.extend(pair.into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_ON: Duration = Duration::from_secs(10);

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn answer(texts: &[&str]) -> Result<(Vec<IpAddr>, StdInstant), NetError> {
        Ok((ips(texts), StdInstant::now() + NOW_ON))
    }

    fn said(look: &Look) -> String {
        match look {
            Look::Answer(answer) => format!("{answer:?}"),
            Look::Failed(_) => "failed".into(),
            Look::Wait(_, patience) => if patience.is_some() { "wait a little" } else { "wait" }.into(),
            Look::Ask(_) => "ask".into(),
        }
    }

    #[test]
    fn families_alternate_and_the_one_that_works_goes_first() {
        let known = Known::new("a");
        let all = ips(&["::1", "::2", "10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let order = known.order(&all);
        assert_eq!(order, ips(&["::1", "10.0.0.1", "::2", "10.0.0.2", "10.0.0.3"]));
        known.connected(all[2]);
        assert_eq!(known.order(&all), ips(&["10.0.0.2", "::2", "10.0.0.3", "::1", "10.0.0.1"]));
    }

    #[test]
    fn an_answer_holds_for_its_time_and_is_used_on_while_the_dns_fails() {
        let (known, now) = (Known::new("a"), Instant::now());
        let Look::Ask(first) = known.look(1, now) else { panic!("nothing is known") };
        assert_eq!(said(&known.look(1, now)), "wait", "one question for all");
        known.learn(1, answer(&["10.0.0.1"]), now);
        drop(first);
        assert_eq!(said(&known.look(1, now + NOW_ON / 2)), "[10.0.0.1]");

        let later = now + NOW_ON;
        let Look::Ask(second) = known.look(1, later) else { panic!("the answer is old") };
        assert_eq!(said(&known.look(1, later)), "wait a little");
        assert_eq!(said(&known.look(1, later + PATIENCE)), "[10.0.0.1]", "the DNS is slow");
        known.learn(1, Err(NetError::Timeout), later);
        drop(second);
        assert_eq!(said(&known.look(1, later)), "[10.0.0.1]", "the DNS is down");
        assert_eq!(said(&known.look(1, later + RETRY)), "ask", "and asked again");
        let too_old = later + STALE;
        known.learn(1, Err(NetError::Timeout), too_old);
        assert_eq!(said(&known.look(1, too_old)), "failed", "but not for ever");
    }

    #[test]
    fn no_such_name_is_an_answer_and_is_not_asked_for_at_once() {
        let (known, now) = (Known::new("a"), Instant::now());
        known.look(1, now);
        known.learn(1, answer(&["10.0.0.1"]), now);
        let none = hickory_resolver::net::NoRecords::new(
            hickory_resolver::proto::op::Query::new(),
            hickory_resolver::proto::op::ResponseCode::NXDomain,
        );
        known.learn(1, Err(hickory_resolver::net::DnsError::NoRecordsFound(none).into()), now + NOW_ON);
        assert_eq!(said(&known.look(1, now + NOW_ON)), "failed");
        assert_eq!(said(&known.look(1, now + NOW_ON + RETRY)), "ask");
    }

    #[test]
    fn another_resolver_is_asked_again_and_a_lost_question_too() {
        let (known, now) = (Known::new("a"), Instant::now());
        drop(known.look(1, now));
        assert_eq!(said(&known.look(1, now)), "ask", "nobody is asking any more");
        known.learn(1, answer(&["10.0.0.1"]), now);
        let Look::Ask(_asking) = known.look(2, now) else { panic!("the other may know better") };
        assert_eq!(said(&known.look(2, now)), "wait a little");
        known.learn(1, answer(&["10.0.0.9"]), now);
        assert_eq!(said(&known.look(2, now)), "wait a little", "who is not asked any more is late");
    }
}
