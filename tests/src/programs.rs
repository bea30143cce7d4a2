//! The kernel's BPF programs beside those of a test: which of them run for a cgroup's sockets, and what each has cost; and programs that
//! do nothing, to compare with.

#![expect(
    unsafe_code,
    reason = "aya neither asks a cgroup for its programs, nor loads what no compiler made"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};

/// What kind of program it is, and where it is attached (`enum bpf_prog_type`, `enum bpf_attach_type`).
#[derive(Clone, Copy)]
pub struct Kind {
    program: u32,
    attach: u32,
}

pub const XDP: Kind = Kind { program: 6, attach: 0 };
/// The hooks that weir has programs at.
pub const HOOKS: [Kind; 3] = [
    // BPF_PROG_TYPE_SOCK_OPS
    Kind { program: 13, attach: 3 },
    // BPF_PROG_TYPE_CGROUP_SOCKOPT, BPF_CGROUP_SETSOCKOPT
    Kind { program: 25, attach: 22 },
    // BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_RELEASE
    Kind { program: 9, attach: 34 },
];
/// All of a cgroup that the life of a TCP socket passes.
const OF_TCP: [u32; 13] = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 21, 22, 34];

/// Numbers of all programs that run for the sockets of a cgroup, its ancestors' included.
pub fn effective(cgroup: &Path) -> BTreeSet<u32> {
    /// `union bpf_attr` of BPF_PROG_QUERY.
    #[repr(C)]
    struct Query {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        rest: [u32; 9],
    }
    const BPF_PROG_QUERY: libc::c_long = 16;
    const BPF_F_QUERY_EFFECTIVE: u32 = 1;
    let cgroup = File::open(cgroup).expect("a cgroup");
    let mut found = BTreeSet::new();
    for attach_type in OF_TCP {
        let mut ids = [0_u32; 256];
        let mut query = Query {
            target_fd: cgroup.as_raw_fd() as u32,
            attach_type,
            query_flags: BPF_F_QUERY_EFFECTIVE,
            attach_flags: 0,
            ids: ids.as_mut_ptr() as u64,
            count: ids.len() as u32,
            rest: [0; 9],
        };
        // SAFETY: the structure is of the stated size, and the kernel writes no more numbers than `count` says.
        let done =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
        assert!(done == 0, "the programs of a cgroup: {}", io::Error::last_os_error());
        found.extend(&ids[..query.count as usize]);
    }
    found
}

/// Runs and their time, by the program's name.
pub type Runs = BTreeMap<String, (u64, Duration)>;

/// What these programs have run while [`count_runs`]'s descriptor was open.
pub fn runs(ids: &BTreeSet<u32>) -> Runs {
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| ids.contains(&program.id()))
        .map(|program| {
            let name = program.name_as_str().unwrap_or("?").to_owned();
            (name, (program.run_count(), program.run_time()))
        })
        .collect()
}

/// Has the kernel count runs and time of every program, as long as what this returns is open.
pub fn count_runs() -> OwnedFd {
    enable_stats(Stats::RunTime).expect("statistics of programs")
}

/// A program that answers `answer`.
pub fn idle(kind: Kind, answer: u8) -> OwnedFd {
    /// `union bpf_attr` of BPF_PROG_LOAD, as far as it is used.
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log: [u64; 3],
        name: [u8; 16],
        ifindex: u32,
        expected_attach_type: u32,
        rest: [u64; 6],
    }
    const BPF_PROG_LOAD: libc::c_long = 5;
    // r0 = answer; exit
    let insns: [u64; 2] = [0xb7 | u64::from(answer) << 32, 0x95];
    let mut name = [0; 16];
    name[..4].copy_from_slice(b"idle");
    let load = Load {
        prog_type: kind.program,
        insn_cnt: 2,
        insns: insns.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 3],
        name,
        ifindex: 0,
        expected_attach_type: kind.attach,
        rest: [0; 6],
    };
    // SAFETY: the structure is of the stated size, and what it points to lives during the call; the kernel only reads it. What it
    // returns is a descriptor of ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>());
        assert!(fd >= 0, "a program that does nothing: {}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

/// Attaches programs that do nothing to a cgroup, one a hook of weir's, until the cgroup goes.
pub fn attach_idle(cgroup: &Path) {
    /// `union bpf_attr` of BPF_PROG_ATTACH.
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        program_fd: u32,
        attach_type: u32,
        flags: u32,
    }
    const BPF_PROG_ATTACH: libc::c_long = 8;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let cgroup = File::open(cgroup).expect("a cgroup");
    for kind in HOOKS {
        let program = idle(kind, 1);
        let attach = Attach {
            target_fd: cgroup.as_raw_fd() as u32,
            program_fd: program.as_raw_fd() as u32,
            attach_type: kind.attach,
            flags: BPF_F_ALLOW_MULTI,
        };
        // SAFETY: the structure is of the stated size, and the kernel only reads it.
        let done =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
        assert_eq!(done, 0, "a program that does nothing: {}", io::Error::last_os_error());
    }
}
