//! What workers can do beyond what they were started for: nothing, as far as this kernel lets them be shut in.
//!
//! They run `tests/sandbox/probe.py`, which tries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use support::{Daemon, child_named, memory_of, pid, text};

/// A pool whose functions try what they are told, in workers with these `keys`.
fn daemon(keys: &str) -> Daemon {
    launch(keys, &[])
}

/// The same; the daemon is started with these variables, too.
fn launch(keys: &str, variables: &[(&str, &str)]) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox/probe.py");
    let functions = format!(
        "[function.probe]\nexec = ['python3', '{}', '{{*}}']\n\
         [function.variables]\nexec = ['env']\n\
         [function.process]\nexec = ['cat', '/proc/self/status']",
        probe.display()
    );
    let config = format!("[pool.cpu]\nworkers = 2\n{keys}\n{functions}");
    std::fs::write(dir.path().join("poold.toml"), config).unwrap();
    let variables = variables.to_owned();
    let mut daemon = Daemon::launch_in(dir, |command| _ = command.envs(variables));
    daemon.wait_until_ready();
    daemon
}

/// What a function printed that went well.
#[track_caller]
fn printed(daemon: &Daemon, args: &[&str]) -> String {
    let output = daemon.run(&[&["submit"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Whether all of `steps`, aimed at the daemon, are refused with `error`.
#[track_caller]
fn assert_refused(daemon: &Daemon, steps: &[&str], error: &str) {
    let target = daemon.child.id().to_string();
    let said = printed(daemon, &["probe", &steps.join(","), &target]);
    let expected: Vec<String> = steps.iter().map(|step| format!("{step} {error}")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

/// The value of a line of /proc/self/status.
fn line<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

/// What the daemon says that this kernel has.
fn words(daemon: &mut Daemon) -> String {
    daemon.wait_for_log("sandbox of pool cpu: ")
}

#[test]
fn signals_to_the_daemon_are_refused() {
    let daemon = daemon("");
    let steps = [
        "kill",
        "kill_group",
        "kill_everyone",
        "kill_every_thread",
        "kill_as_a_member",
        "kill_by_descriptor",
        "pidfd_kill",
        "pidfd_open",
        "set_limits",
        "lower_priority",
    ];
    assert_refused(&daemon, &steps, "EPERM");
    assert_eq!(printed(&daemon, &["is_prime", "7"]), "true\n");
}

#[test]
fn worker_can_trace_neither_the_daemon_nor_its_sibling() {
    let mut daemon = daemon("");
    assert_refused(&daemon, &["trace", "read_memory"], "EPERM");
    let workers = daemon.worker_pids().into_iter().map(|pid| pid.as_raw_nonzero().to_string());
    let workers: Vec<String> = workers.collect();
    let workers: Vec<&str> = workers.iter().map(String::as_str).collect();
    let said =
        printed(&daemon, &[&["probe", "sibling", "trace,read_memory,set_limits"], &workers[..]].concat());
    assert_eq!(said, "trace EPERM\nread_memory EPERM\nset_limits EPERM\n");

    let daemon_pid = daemon.child.id().to_string();
    let said = printed(&daemon, &["probe", "open_memory", &daemon_pid]);
    assert!(["open_memory EACCES\n", "open_memory EPERM\n"].contains(&said.as_str()), "{said}");
    let said = printed(&daemon, &[&["probe", "sibling", "open_memory"], &workers[..]].concat());
    assert!(["open_memory EACCES\n", "open_memory EPERM\n"].contains(&said.as_str()), "{said}");

    if words(&mut daemon).contains("no signals to others") {
        let said = printed(&daemon, &[&["probe", "sibling", "kill"], &workers[..]].concat());
        assert_eq!(said, "kill EPERM\n");
    }
}

#[test]
fn what_no_function_needs_is_refused() {
    let daemon = daemon("");
    assert_refused(&daemon, &["mount", "unshare", "clone", "chroot"], "EPERM");
}

#[test]
fn what_functions_do_need_is_left_to_them() {
    let daemon = daemon("");
    assert_refused(&daemon, &["kill_child", "link_across_directories"], "done");
}

#[test]
fn worker_has_no_capabilities_and_a_filter() {
    let daemon = daemon("");
    let workers = daemon.worker_pids().into_iter().map(|pid| {
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        std::fs::read_to_string(path).unwrap()
    });
    for status in workers.chain([printed(&daemon, &["process"])]) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(line(&status, set), "0000000000000000", "{set}");
        }
        assert_eq!(line(&status, "NoNewPrivs"), "1");
        assert_eq!(line(&status, "Seccomp"), "2");
    }
}

#[test]
fn pool_without_a_sandbox_is_left_alone_and_said_to_be() {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut daemon = daemon("sandbox = false");
    let status = printed(&daemon, &["process"]);
    for name in ["CapPrm", "CapEff", "CapBnd", "Seccomp"] {
        assert_eq!(line(&status, name), line(&own, name), "{name}");
    }
    assert_eq!(line(&status, "NoNewPrivs"), "1");
    assert!(words(&mut daemon).ends_with("no_new_privs alone, by its configuration"));
}

#[test]
fn process_of_a_worker_is_no_client_wherever_it_went() {
    for keys in ["", "sandbox = false"] {
        let mut daemon = daemon(keys);
        let socket = daemon.socket.to_str().unwrap().to_owned();
        for how in ["connect", "connect_far_away"] {
            let said = printed(&daemon, &["probe", how, env!("CARGO_BIN_EXE_poolctl"), &socket]);
            assert!(said.contains("no worker's process"), "{how}: {said}");
            daemon.wait_for_log("a worker's process asked to be a client");
        }
        assert!(daemon.run(&["status"]).status.success());
    }
}

#[test]
fn worker_has_the_variables_that_are_let_through_and_no_others() {
    let variables = [("TOKEN", "secret"), ("LC_TIME", "C"), ("APP_ONE", "1"), ("APPS", "2")];
    let names = |keys: &str| {
        let said = printed(&launch(keys, &variables), &["variables"]);
        let names = said.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned()));
        let is_looked_at = |name: &String| {
            ["PATH", "MORE"].into_iter().chain(variables.map(|(name, _)| name)).any(|own| own == name)
        };
        names.filter(is_looked_at).collect::<BTreeSet<String>>()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names(""), set(&["PATH", "LC_TIME"]));
    assert_eq!(names("env_pass = ['PATH', 'APP_*']\nenv.MORE = 'x'"), set(&["PATH", "APP_ONE", "MORE"]));
    assert_eq!(names("env_pass = ['*']"), set(&["PATH", "LC_TIME", "TOKEN", "APP_ONE", "APPS"]));
}

/// Three variables of this `owner`, of which a copy that was freed keeps all but the first bytes.
fn variables_of(owner: &str) -> [(String, String); 3] {
    [64, 400, 1600]
        .map(|bytes| (format!("OF_{bytes}"), format!("value-of-{owner} ").repeat(bytes)[..bytes].to_owned()))
}

#[test]
fn worker_holds_no_variable_of_the_daemon_or_of_another_pool() {
    let [own, other] = ["its-own", "another"]
        .map(|owner| variables_of(owner).map(|(name, value)| format!("{name} = '{value}'")).join(", "));
    let keys =
        format!("env = {{ {own} }}\n[pool.other]\nworkers = 1\nfunctions = ['echo']\nenv = {{ {other} }}");
    let of_the_daemon = variables_of("the-daemon");
    let of_the_daemon: Vec<_> = of_the_daemon.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let mut daemon = launch(&keys, &of_the_daemon);
    let mut assert_for_all_workers = || {
        (0..3).for_each(|_| _ = daemon.wait_for_log("is ready"));
        let workers = daemon.workers();
        assert_eq!(workers.len(), 3);
        for worker in workers {
            let process = pid(worker["pid"].as_i64().unwrap());
            let memory = memory_of(process);
            let is_of_other = worker["pool"] == "other";
            assert!(memory.contains("poold: worker"));
            assert!(!memory.contains("value-of-the-daemon"));
            assert_eq!(memory.contains("value-of-its-own"), !is_of_other);
            assert_eq!(memory.contains("value-of-another"), is_of_other);
            kill_process(process, Signal::KILL).unwrap();
        }
    };
    assert_for_all_workers();
    // Those that take their places are made when all pools have had a worker.
    assert_for_all_workers();
    for name in ["poold: template", "poold: guard"] {
        let memory = memory_of(child_named(&daemon, name).unwrap());
        assert!(memory.contains(name) && !memory.contains("value-of-"), "{name}");
    }
}

#[test]
fn what_is_preloaded_into_the_daemon_is_not_in_its_workers() {
    const LIBRARY: &str = "libresolv.so.2";
    let daemon = launch("", &[("LD_PRELOAD", LIBRARY)]);
    let has_it = |process: Pid| {
        text(&std::fs::read(format!("/proc/{}/maps", process.as_raw_nonzero())).unwrap()).contains(LIBRARY)
    };
    assert!(has_it(daemon.pid()));
    assert!(!daemon.worker_pids().into_iter().any(has_it));
}

#[test]
fn worker_reaches_neither_the_guard_nor_the_template() {
    // With one of the loader's variables, no template is forked: both are executed.
    for variables in [&[][..], &[("LD_BIND_NOW", "")]] {
        let daemon = launch("", variables);
        for name in ["poold: guard", "poold: template"] {
            let process = child_named(&daemon, name).unwrap().as_raw_nonzero().to_string();
            for step in ["kill", "pidfd_open", "open_memory"] {
                let said = printed(&daemon, &["probe", step, &process]);
                let refusals = ["EPERM", "EACCES"].map(|error| format!("{step} {error}\n"));
                assert!(refusals.contains(&said), "{name}: {said}");
            }
        }
    }
}
