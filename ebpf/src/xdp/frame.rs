//! A packet's bytes, for the parser that kernel and tests share.

use core::mem::MaybeUninit;

use aya_ebpf::{EbpfContext as _, helpers::bpf_xdp_load_bytes, programs::XdpContext};
use weir_common::packet::Frame;

pub struct XdpFrame<'a> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    pub fn of(ctx: &'a XdpContext) -> Self {
        Self { ctx, start: ctx.data(), end: ctx.data_end() }
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn fixed<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let start = self.start + at;
        if start + N > self.end {
            return None;
        }
        // SAFETY: inside of the packet by the check, which the verifier asks for; bytes have no alignment.
        Some(unsafe { *(start as *const [u8; N]) })
    }

    /// By a helper (Linux 5.18): without `CAP_PERFMON` the verifier takes no addition of a variable to a packet's address, "pointer
    /// with unsupported alu operation".
    #[inline(always)]
    fn at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the context is the kernel's; the helper writes `N` bytes to this stack, or fails.
        unsafe {
            let failed =
                bpf_xdp_load_bytes(self.ctx.as_ptr().cast(), at as u32, bytes.as_mut_ptr().cast(), N as u32);
            if failed != 0 { None } else { Some(bytes.assume_init()) }
        }
    }
}
