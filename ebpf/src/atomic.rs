//! Atomic operations on map memory, which other CPUs and the agent's mapping change at the same time.
//!
//! On BPF they are compiler intrinsics: the target declares no compare-and-swap, so `core`'s atomic types lack the
//! methods, while LLVM has the instructions from `-Ctarget-cpu=v3` on (Linux 5.12). All are relaxed but for the ordering
//! that BPF's fetching atomics have anyway (full barriers).

/// Tries of a compare-and-swap loop before its caller does without; a failed try means that another CPU made progress.
pub const TRIES: u32 = 6;

#[cfg(target_arch = "bpf")]
mod imp {
    use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};

    #[inline(always)]
    pub unsafe fn add(target: *mut u64, value: u64) -> u64 {
        // SAFETY: the caller's pointer is live map memory, which is only changed atomically.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(target, value) }
    }

    #[inline(always)]
    pub unsafe fn swap_u32(target: *mut u32, value: u32) -> u32 {
        // SAFETY: as above.
        unsafe { atomic_xchg::<u32, { AtomicOrdering::SeqCst }>(target, value) }
    }

    #[inline(always)]
    pub unsafe fn swap(target: *mut u64, value: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(target, value) }
    }

    #[inline(always)]
    pub unsafe fn compare_exchange_u32(target: *mut u32, old: u32, new: u32) -> bool {
        // SAFETY: as above.
        unsafe {
            atomic_cxchg::<u32, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(target, old, new).1
        }
    }

    #[inline(always)]
    pub unsafe fn compare_exchange(target: *mut u64, old: u64, new: u64) -> bool {
        // SAFETY: as above.
        unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(target, old, new).1
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
mod imp {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

    pub unsafe fn add(target: *mut u64, value: u64) -> u64 {
        // SAFETY: the caller's pointer is live and aligned.
        unsafe { AtomicU64::from_ptr(target) }.fetch_add(value, SeqCst)
    }

    pub unsafe fn swap_u32(target: *mut u32, value: u32) -> u32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(target) }.swap(value, SeqCst)
    }

    pub unsafe fn swap(target: *mut u64, value: u64) -> u64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(target) }.swap(value, SeqCst)
    }

    pub unsafe fn compare_exchange_u32(target: *mut u32, old: u32, new: u32) -> bool {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(target) }.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }

    pub unsafe fn compare_exchange(target: *mut u64, old: u64, new: u64) -> bool {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(target) }.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }
}

pub use imp::{add, compare_exchange, compare_exchange_u32, swap, swap_u32};

/// Adds one.
#[inline(always)]
pub unsafe fn increment(target: *mut u64) {
    // SAFETY: the caller's.
    unsafe { add(target, 1) };
}

/// Takes one away.
#[inline(always)]
pub unsafe fn decrement(target: *mut u64) {
    // SAFETY: the caller's.
    unsafe { add(target, u64::MAX) };
}

/// Reads what others may be changing.
#[inline(always)]
pub unsafe fn load(target: *const u64) -> u64 {
    // SAFETY: the caller's; aligned 8-byte loads are single instructions on every 64-bit machine.
    unsafe { core::ptr::read_volatile(target) }
}
