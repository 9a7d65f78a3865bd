//! A filter on system calls (seccomp(2)): what no function needs is refused with EPERM, in this process and in all
//! that it starts; so is whatever would reach the daemon.
//!
//! All else is allowed: functions are programs of all kinds.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use libc::c_long;
use rustix::process::getpgid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};

use crate::id::Pid;
use crate::message::template::Instruction;

/// Calls that are refused whatever their arguments.
const REFUSED: &[c_long] = &[
    // Other processes: to look into them, to change them, to signal them past what is checked below.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_tkill,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    // Parts of the kernel that have let many out of where they were.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // What it does is done past this filter.
    libc::SYS_io_uring_setup,
];

/// Calls that reach a process, a thread or a group, and which argument says which one.
const REACHING: &[(c_long, u8)] = &[
    (libc::SYS_kill, 0),
    (libc::SYS_tgkill, 0),
    (libc::SYS_rt_sigqueueinfo, 0),
    (libc::SYS_rt_tgsigqueueinfo, 0),
    (libc::SYS_pidfd_open, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
    // To become a member of the daemon's group is to reach it by one's own.
    (libc::SYS_setpgid, 1),
];

/// IOPRIO_WHO_USER of ioprio_set(2).
const IOPRIO_WHO_USER: i32 = 3;

/// F_SETSIG and F_SETOWN_EX of fcntl(2): which signal a descriptor sends, and to whom.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// The same by ioctl(2), which takes a pointer.
const FIOSETOWN: i32 = 0x8901;
const SIOCSPGRP: i32 = 0x8902;

/// Flags of clone(2) that make a namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Numbers from here on belong to the x32 interface of x86_64: the same calls under other numbers.
const X32_NUMBERS: u32 = 0x4000_0000;

/// AUDIT_ARCH_* of linux/audit.h: by which machine's numbers a call is made; where it is not known here there is no
/// short cut.
const MACHINE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Calls in a row, none of them in a rule, that are worth a short cut.
const SHORTCUT_CALLS_MIN: u32 = 8;

/// Loads a word of what a filter sees (struct seccomp_data of seccomp(2)).
const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;

/// Where the number of the call is in it, and the machine.
const NUMBER_OFFSET: u32 = 0;
const MACHINE_OFFSET: u32 = 4;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// The program could not be made.
    #[error("{0}")]
    Program(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("{0}")]
    Kernel(#[from] seccompiler::Error),
}

/// Whether this kernel has such filters.
pub(crate) fn is_available() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: `action` lives through the call, which reads it alone.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0_u32, &raw const action) };
    result == 0
}

/// Filters the calls of this process by `program`, for good. It has one thread.
///
/// # Errors
/// Why there is no filter now.
pub(crate) fn filter(program: &[Instruction]) -> Result<(), FilterError> {
    let instructions = program.iter().map(|&Instruction { code, jump_if_true, jump_if_false, constant }| {
        instruction(code.into(), jump_if_true, jump_if_false, constant)
    });
    Ok(apply_filter(&instructions.collect::<BpfProgram>())?)
}

/// The filter for a worker of the `daemon`, with all threads that it has now. The `others` are not reached either.
///
/// # Errors
/// Why there is none.
pub(crate) fn program(
    daemon: Pid,
    others: impl IntoIterator<Item = Pid>,
) -> Result<Vec<Instruction>, FilterError> {
    let instruction = |sock_filter { code, jt, jf, k }| Instruction {
        code,
        jump_if_true: jt,
        jump_if_false: jf,
        constant: k,
    };
    Ok(bpf_program(daemon, others)?.into_iter().map(instruction).collect())
}

fn bpf_program(daemon: Pid, others: impl IntoIterator<Item = Pid>) -> Result<BpfProgram, FilterError> {
    let errno = SeccompAction::Errno(libc::EPERM as u32);
    let machine = std::env::consts::ARCH.try_into()?;
    let rules = rules(daemon, others)?;
    let shortcut = shortcut(rules.keys().filter_map(|call| u32::try_from(*call).ok()));
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, errno, machine)?.try_into()?;
    Ok(absent_calls().into_iter().chain(shortcut).chain(filter).collect())
}

fn rules(
    daemon: Pid,
    others: impl IntoIterator<Item = Pid>,
) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, FilterError> {
    let mut rules = BTreeMap::new();
    let group = group_of(daemon);
    let mut reached = threads_of(daemon);
    reached.extend(group);
    reached.extend(others.into_iter().map(|other| other.0.cast_signed()));
    for (call, argument) in REACHING {
        let aimed = reached.iter().map(|id| rule(&[is(*argument, *id)]));
        rules.insert(*call, aimed.collect::<Result<Vec<SeccompRule>, FilterError>>()?);
    }
    let mut refuse = |call, conditions: &[Condition]| {
        rules.entry(call).or_default().push(rule(conditions)?);
        Ok::<(), FilterError>(())
    };
    // Everyone, and the daemon's group.
    refuse(libc::SYS_kill, &[is(0, -1)])?;
    for id in reached {
        refuse(libc::SYS_kill, &[is(0, -id)])?;
        refuse(libc::SYS_fcntl, &[is(1, libc::F_SETOWN), is(2, id)])?;
        refuse(libc::SYS_fcntl, &[is(1, libc::F_SETOWN), is(2, -id)])?;
    }
    for command in [F_SETSIG, F_SETOWN_EX] {
        refuse(libc::SYS_fcntl, &[is(1, command)])?;
    }
    for request in [FIOSETOWN, SIOCSPGRP] {
        refuse(libc::SYS_ioctl, &[is(1, request)])?;
    }
    // All that its user runs.
    refuse(libc::SYS_setpriority, &[is(0, libc::PRIO_USER as i32)])?;
    refuse(libc::SYS_ioprio_set, &[is(0, IOPRIO_WHO_USER)])?;
    // Another process's limits.
    refuse(libc::SYS_prlimit64, &[Condition { operator: SeccompCmpOp::Ne, ..is(0, 0) }])?;
    for flag in NAMESPACES {
        let has = SeccompCmpOp::MaskedEq(flag as u64);
        refuse(libc::SYS_clone, &[Condition { operator: has, ..is(0, flag) }])?;
    }
    // No rule is every argument.
    rules.extend(REFUSED.iter().map(|call| (*call, Vec::new())));
    Ok(rules)
}

/// What an argument must be for a call to be refused.
struct Condition {
    argument: u8,
    operator: SeccompCmpOp,
    value: i32,
}

fn is(argument: u8, value: i32) -> Condition {
    Condition { argument, operator: SeccompCmpOp::Eq, value }
}

fn rule(conditions: &[Condition]) -> Result<SeccompRule, FilterError> {
    let conditions = conditions.iter().map(|Condition { argument, operator, value }| {
        // The kernel takes these arguments for 32 bits, whatever is above.
        let value = u64::from(value.cast_unsigned());
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), value)
    });
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

/// The numbers of the threads of `process`: a signal to one is a signal to all.
fn threads_of(process: Pid) -> Vec<i32> {
    let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let threads = fs::read_dir(format!("/proc/{}/task", process.0));
    let mut threads: Vec<i32> = threads.into_iter().flatten().filter_map(number).collect();
    let leader = process.0.cast_signed();
    if !threads.contains(&leader) {
        threads.push(leader);
    }
    threads
}

/// The process group of `process`, unless its number is that of the process.
fn group_of(process: Pid) -> Option<i32> {
    let leader = process.0.cast_signed();
    let group = getpgid(rustix::process::Pid::from_raw(leader)).ok()?.as_raw_pid();
    (group != leader).then_some(group)
}

/// Allows the calls of this machine that lie far from those of the rules, in order, without going through all of the
/// rules: the kernel does that once for each call there is, when it takes the filter.
fn shortcut(ruled: impl Iterator<Item = u32>) -> Vec<sock_filter> {
    let Some(machine) = MACHINE else { return Vec::new() };
    let mut allowed = Vec::new();
    let mut first = 0;
    for call in ruled.chain([X32_NUMBERS]) {
        if call.saturating_sub(first) >= SHORTCUT_CALLS_MIN {
            allowed.extend([
                instruction(compare(libc::BPF_JGE), 0, 2, first),
                instruction(compare(libc::BPF_JGE), 1, 0, call),
                instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
            ]);
        }
        first = call + 1;
    }
    // A longer way than a jump can take is left to the rules.
    let Ok(length) = u8::try_from(allowed.len() + 1) else { return Vec::new() };
    let head = [
        instruction(LOAD, 0, 0, MACHINE_OFFSET),
        instruction(compare(libc::BPF_JEQ), 0, length, machine),
        instruction(LOAD, 0, 0, NUMBER_OFFSET),
    ];
    head.into_iter().chain(allowed).collect()
}

/// What comes first: calls that are said not to exist (ENOSYS), so that programs take older ones.
///
/// clone3(2) takes its flags by a pointer, where no filter can see them.
fn absent_calls() -> [sock_filter; 4] {
    [
        instruction(LOAD, 0, 0, NUMBER_OFFSET),
        instruction(compare(libc::BPF_JGE), 1, 0, X32_NUMBERS),
        instruction(compare(libc::BPF_JEQ), 0, 1, libc::SYS_clone3 as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ]
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// A jump on a comparison with a constant.
fn compare(condition: u32) -> u32 {
    libc::BPF_JMP | condition | libc::BPF_K
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortcut_lets_no_call_of_a_rule_and_no_other_machine_past() {
        let ruled = [16, 56, 62, 101, 425];
        let program = shortcut(ruled.into_iter());
        // What becomes of a call: whether it is allowed before the rules.
        let is_allowed = |machine: u32, number: u32| {
            let (mut position, mut loaded) = (0, 0);
            while let Some(sock_filter { code, jt, jf, k }) = program.get(position) {
                position += 1;
                let jump = |condition: bool| usize::from(if condition { *jt } else { *jf });
                match u32::from(*code) {
                    LOAD => loaded = if *k == MACHINE_OFFSET { machine } else { number },
                    code if code == compare(libc::BPF_JEQ) => position += jump(loaded == *k),
                    code if code == compare(libc::BPF_JGE) => position += jump(loaded >= *k),
                    _ => return true,
                }
            }
            assert_eq!(position, program.len());
            false
        };
        let Some(machine) = MACHINE else { return };
        assert!(ruled.into_iter().all(|call| !is_allowed(machine, call)));
        assert!(
            [0, 15, 17, 55, 63, 100, 424, 426, X32_NUMBERS - 1]
                .into_iter()
                .all(|call| is_allowed(machine, call))
        );
        // Too few to be worth it.
        assert!(!is_allowed(machine, 57));
        assert!(!is_allowed(machine, X32_NUMBERS));
        assert!((0..500).all(|call| !is_allowed(machine + 1, call)));
    }

    #[test]
    fn program_is_one_that_the_kernel_takes() {
        let program = program(Pid(std::process::id()), [Pid(2), Pid(3)]).expect("a filter");
        assert!(program.len() <= libc::BPF_MAXINSNS as usize, "{} instructions", program.len());
    }

    #[test]
    fn own_threads_are_reached_by_their_numbers() {
        let own = Pid(std::process::id());
        let on_a_thread = std::thread::spawn(move || (rustix::thread::gettid(), threads_of(own)));
        let (thread, threads) = on_a_thread.join().expect("it does not panic");
        assert!(threads.contains(&thread.as_raw_pid()));
        assert!(threads.contains(&own.0.cast_signed()));
    }
}
