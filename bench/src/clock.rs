//! Time: a clock that all processes of the host share, and a pace that does not wait for anybody.
//!
//! A load that sends its next message when the last one has been answered does not see the messages that it would have sent during a
//! stall (coordinated omission). [`Pace`] says what is due by the clock alone, however late whoever sends is; latency counts from there.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    time::Duration,
};

use nix::{
    sys::{
        time::TimeSpec,
        timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    time::{ClockId, clock_gettime},
};
use tokio::io::unix::AsyncFd;

/// Nanoseconds of the host's monotonic clock.
pub fn now_ns() -> u64 {
    // This clock is always there.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Things that are due at even distances. tokio's own timers have a grain of a millisecond; this one has the kernel's.
pub struct Pace {
    timer: AsyncFd<Timer>,
    begun_ns: u64,
    every_ns: u64,
    done: u64,
}

impl Pace {
    /// Begins now.
    pub fn new(every: Duration) -> io::Result<Self> {
        let timer = TimerFd::new(
            timerfd::ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; what it asks for holds: this type has one descriptor all its life"
        )]
        let timer = AsyncFd::new(Timer(timer))?;
        let every_ns = every.as_nanos() as u64;
        Ok(Self { timer, begun_ns: now_ns(), every_ns, done: 0 })
    }

    /// Waits until something is due; the times of all that is.
    pub async fn due(&mut self) -> io::Result<impl Iterator<Item = u64> + use<>> {
        let next_ns = self.begun_ns + self.done * self.every_ns;
        while now_ns() < next_ns {
            let at = TimeSpec::from_duration(Duration::from_nanos(next_ns));
            self.timer.get_ref().0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            let mut fired = self.timer.readable().await?;
            // Setting it anew takes the expiration back; nothing is read.
            fired.clear_ready();
        }
        let passed = (now_ns() - self.begun_ns) / self.every_ns + 1;
        let numbers: Range<u64> = self.done..passed.max(self.done + 1);
        self.done = numbers.end;
        let (begun_ns, every_ns) = (self.begun_ns, self.every_ns);
        Ok(numbers.map(move |number| begun_ns + number * every_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_falls_due_while_nobody_looks_is_due_all_the_same() {
        let every = Duration::from_millis(2);
        let mut pace = Pace::new(every).expect("a timer");
        let mut all = Vec::new();
        for round in 0..5 {
            let late = now_ns() + if round == 2 { 20_000_000 } else { 0 };
            // A sender that is stalled.
            while now_ns() < late {}
            all.extend(pace.due().await.expect("due"));
        }
        assert!(all.len() >= 14, "the stall's ten are there: {}", all.len());
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == 2_000_000), "none is missing");
        assert!(all.iter().all(|due| *due <= now_ns()), "none is early");
    }
}
