//! The configuration as an operator meets it: a file's text in; values, one line about a mistake, or
//! the changes of a reload out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use poold::daemon::config::{Config, EnvironmentPass, Pool, PoolLimits, Source, reload};
use poold::id::{Credentials, FunctionName, Gid, PoolName, Uid};
use poold::limits;
use poold::supervisor::{Policy, PoolPolicy, WhenDegraded, Who};
use tempfile::TempDir;

const SHIPPED: &str = include_str!("../systemd/poold.toml");

/// A configuration file in a directory of its own.
struct File {
    path: PathBuf,
    _directory: TempDir,
}

impl File {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("poold.toml");
        std::fs::write(&path, text).unwrap();
        File { path, _directory: directory }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }

    fn source(&self) -> Source {
        Source { file: Some(self.path.clone()), ..Source::default() }
    }
}

fn read(text: &str) -> Config {
    File::new(text).source().read().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The line about what is wrong with `text`, the file's path left out.
fn mistake(text: impl AsRef<[u8]>) -> String {
    let file = File::new(text);
    let line = file.source().read().unwrap_err().to_string();
    let path = file.path.to_str().unwrap();
    assert!(!line.contains('\n'), "more than one line: {line}");
    line.strip_prefix(path).and_then(|line| line.strip_prefix(':')).unwrap().to_owned()
}

fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

fn pool_names(config: &Config) -> Vec<&str> {
    config.pools.iter().map(|pool| pool.name.as_str()).collect()
}

// ---- values ------------------------------------------------------------------------------------

#[test]
fn empty_file_gives_the_defaults_of_limits() {
    let config = read("");
    assert_eq!(config, Config::default());
    assert_eq!(config.socket, None);
    assert_eq!(config.socket_mode, limits::SOCKET_MODE);
    assert_eq!(config.socket_group, None);
    assert!(!config.allow_fault_injection);

    let policy = config.policy(Uid(7), None);
    let workers = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let load_url = vec![FunctionName::new("load_url").unwrap()];
    let cpu = PoolPolicy { except: load_url.clone(), ..PoolPolicy::new(pool("cpu"), workers) };
    let io = PoolPolicy { functions: Some(load_url), ..PoolPolicy::new(pool("io"), 1) };
    assert_eq!(policy, Policy::new(vec![cpu, io], Uid(7)));
    assert_eq!(config.pools.iter().map(|pool| pool.threads).collect::<Vec<u32>>(), [1, 32]);
    assert_eq!(config.limits.connections, limits::CONNECTIONS_MAX);
    assert_eq!(config.limits.unread_bytes, limits::UNREAD_BYTES_MAX);
    assert_eq!(config.limits.all_unread_bytes, limits::ALL_UNREAD_BYTES_MAX);
}

#[test]
fn shipped_file_gives_the_defaults() {
    assert_eq!(read(SHIPPED), Config::default());
}

/// The shipped file with the defaults it shows in force: there `#key = value` is a default that can be
/// changed, `# text` is text.
fn shipped_with_settings() -> String {
    let is_setting =
        |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase() || ['[', '"'].contains(&c));
    let lines = SHIPPED.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.collect::<Vec<&str>>().join("\n")
}

#[test]
fn shipped_file_with_its_settings_in_force_gives_the_defaults() {
    let text = shipped_with_settings();
    let settings = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert!(settings > 15, "only {settings} settings found");
    assert_eq!(read(&text), Config::default());
}

#[test]
fn shipped_file_names_every_key() {
    for table in ["", "[access]", "[limits]", "[restart]", "[pool.cpu]", "[function.x]\nexec = ['x']"] {
        let line = mistake(format!("{table}\nxyzzyx = 1"));
        let keys = line.split_once("the keys here are ").unwrap().1;
        for key in keys.split(", ") {
            let is_named = SHIPPED.lines().any(|line| {
                let setting = line.trim_start_matches(['#', ' ', '[']);
                setting.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', ']', '.']))
            });
            assert!(is_named, "`{key}` of {table} is not in systemd/poold.toml");
        }
    }
}

#[test]
fn every_key_is_read_into_its_field() {
    let config = read(
        r#"
        socket = "/run/x.sock"
        socket_mode = "0600"
        socket_group = "staff"
        allow_fault_injection = true
        drain_timeout = "1m 30s"
        quarantine_after = 15
        [limits]
        connections = 1
        user_connections = 8
        user_tasks = 9
        user_bytes = "10 B"
        user_results = 11
        user_result_bytes = 12
        queue_tasks = 2
        payload_bytes = "2 KiB"
        queue_bytes = "3 KiB"
        unread_bytes = 4
        all_unread_bytes = 44
        results = 5
        result_bytes = "6 MB"
        result_age = "7h"
        [restart]
        intensity = 0
        period = "8s"
        backoff_min = "9ms"
        backoff_max = "10s"
        [pool.io]
        workers = 11
        threads = 10
        memory = "256 MiB"
        open_files = 15
        processes = 16
        file_size = "17 KiB"
        core = "18 KiB"
        functions = ["echo", "is_prime"]
        except = ["fail"]
        timeout = "12s"
        grace = "13ms"
        start_timeout = "14s"
        standby = 16
        max_attempts = 17
        max_lifetime = "18h"
        max_rss = "19 MiB"
        when_degraded = "refuse"
        command = ["python3", "-c", ""]
        env_pass = ["PATH", "LC_*"]
        env = { LANG = "C", EMPTY = "" }
        sandbox = false
        "#,
    );
    assert_eq!(config.socket.as_deref(), Some(Path::new("/run/x.sock")));
    assert_eq!(config.socket_mode, 0o600);
    assert_eq!(config.socket_group.as_deref(), Some("staff"));
    assert!(config.allow_fault_injection);
    assert_eq!(config.drain_timeout, Duration::from_secs(90));
    assert_eq!(config.quarantine_after, Some(15));
    assert_eq!(config.limits.connections, 1);
    assert_eq!(config.limits.queue_tasks, 2);
    assert_eq!(config.limits.payload_bytes, 2 * 1024);
    assert_eq!(config.limits.queue_bytes, 3 * 1024);
    assert_eq!(config.limits.unread_bytes, 4);
    assert_eq!(config.limits.all_unread_bytes, 44);
    assert_eq!(config.limits.results, 5);
    assert_eq!(config.limits.result_bytes, 6_000_000);
    let of_user = &config.limits;
    assert_eq!((of_user.user_connections, of_user.user_tasks, of_user.user_bytes), (8, 9, 10));
    assert_eq!((of_user.user_results, of_user.user_result_bytes), (11, 12));
    assert_eq!(config.limits.result_age, Duration::from_secs(7 * 3600));
    assert_eq!(config.restart.intensity, 0);
    assert_eq!(config.restart.period, Duration::from_secs(8));
    assert_eq!(config.restart.backoff_min, Duration::from_millis(9));
    assert_eq!(config.restart.backoff_max, Duration::from_secs(10));
    let expected = Pool {
        name: pool("io"),
        threads: 10,
        workers: 11,
        functions: Some(["echo", "is_prime"].map(|name| FunctionName::new(name).unwrap()).into()),
        except: vec![FunctionName::new("fail").unwrap()],
        timeout: Some(Duration::from_secs(12)),
        grace: Duration::from_millis(13),
        start_timeout: Duration::from_secs(14),
        standby: 16,
        max_attempts: Some(17),
        max_lifetime: Some(Duration::from_secs(18 * 3600)),
        max_rss_bytes: Some(19 * 1024 * 1024),
        when_degraded: WhenDegraded::Refuse,
        command: Some(["python3", "-c", ""].map(str::to_owned).into()),
        env_pass: EnvironmentPass::new(["PATH", "LC_*"].map(str::to_owned).into()),
        env: [("EMPTY", ""), ("LANG", "C")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        limits: PoolLimits {
            memory_bytes: Some(256 << 20),
            cpu_time: None,
            open_files: Some(15),
            processes: Some(16),
            file_size_bytes: Some(17 << 10),
            core_bytes: 18 << 10,
        },
        sandbox: false,
    };
    assert_eq!(config.pools, [expected]);
}

#[test]
fn policy_carries_what_the_file_sets() {
    let config = read("[limits]\nqueue_tasks = 9\nresult_age = '1s'\n[pool.a]\nworkers = 3\ntimeout = '5s'");
    let policy = config.policy(Uid(0), None);
    assert_eq!(policy.queue_tasks_max, 9);
    assert_eq!(policy.result_age_max, Duration::from_secs(1));
    assert_eq!(policy.pools[0].workers, 3);
    assert_eq!(policy.pools[0].timeout, Some(Duration::from_secs(5)));
}

#[test]
fn quarantine_after_no_workers_is_never() {
    assert_eq!(read("quarantine_after = 0").policy(Uid(0), None).quarantine_after, None);
    assert_eq!(read("quarantine_after = 1").policy(Uid(0), None).quarantine_after, Some(1));
}

#[test]
fn pools_keep_the_order_of_the_file() {
    let tables = read("[pool.zebra]\nworkers = 1\n[pool.ant]\nworkers = 1\n[pool.mole.env]\nA = 'b'");
    assert_eq!(pool_names(&tables), ["zebra", "ant", "mole"]);
    let dotted = read("pool.z.workers = 1\npool.a.workers = 1\npool.z.grace = '2s'");
    assert_eq!(pool_names(&dotted), ["z", "a"]);
    let inline = read("pool = { z = { workers = 1 }, a = { workers = 1 } }");
    assert_eq!(pool_names(&inline), ["z", "a"]);
}

#[test]
fn share_of_a_user_is_half_of_what_the_file_sets() {
    let limits = read("[limits]\nconnections = 7\nqueue_tasks = 1\nqueue_bytes = 10\nresults = 3").limits;
    assert_eq!((limits.user_connections, limits.user_tasks, limits.user_bytes), (3, 1, 5));
    assert_eq!((limits.user_results, limits.user_result_bytes), (1, limits::RESULT_BYTES_MAX / 2));
}

/// Whether the user `uid` in the groups `gids` is one of `who`.
fn is_one_of(who: &Who, uid: u32, gids: &[u32]) -> bool {
    who.includes(&Credentials { user: Uid(uid), groups: gids.iter().copied().map(Gid).collect() })
}

#[test]
fn access_is_read_by_name_and_by_number() {
    let access = read(
        r#"
        [access]
        connect = ["root", "1000", "@root", "@4000000000"]
        administer = []
        [access.run]
        is_prime = ["*"]
        "tools:scan/all" = ["1000", "*"]
        "*" = ["1001"]
        "#,
    )
    .access;
    let may_connect = |uid, gids: &[u32]| is_one_of(&access.connect, uid, gids);
    assert!(may_connect(0, &[7]) && may_connect(1000, &[]) && may_connect(5, &[7, 0]));
    assert!(may_connect(5, &[4_000_000_000]) && !may_connect(1001, &[7]));
    assert_eq!(access.administer, Who::nobody());
    let to_run = |name: &str| access.to_run(&FunctionName::new(name).unwrap()).clone();
    assert_eq!((to_run("is_prime"), to_run("tools:scan/all")), (Who::Everyone, Who::Everyone));
    assert!(is_one_of(&to_run("echo"), 1001, &[]) && !is_one_of(&to_run("echo"), 1000, &[]));
    assert_eq!(to_run("run"), Who::nobody(), "it is opened by its own name alone");
}

#[test]
fn access_without_a_table_is_for_everyone_but_to_run_any_command() {
    let access = read("").access;
    let to_run = |name: &str| access.to_run(&FunctionName::new(name).unwrap()).clone();
    assert_eq!((&access.connect, &access.administer), (&Who::Everyone, &Who::nobody()));
    assert_eq!((to_run("echo"), to_run("run")), (Who::Everyone, Who::nobody()));
}

#[test]
fn mistakes_in_access_are_told_with_their_place() {
    let names = r#"takes a list of users and groups such as ["alice", "@staff"], or ["*"] for everyone"#;
    let cases = [
        (
            "connect = ['root',\n  'no such']",
            "3:3: there is no user `no such` in /etc/passwd; correct the name, or give its number".to_owned(),
        ),
        (
            "administer = ['root', '@no-such']",
            "2:23: there is no group `no-such` in /etc/group; correct the name, or give its number"
                .to_owned(),
        ),
        ("connect = 'root'", format!("2:11: `connect` {names}, not `'root'`")),
        ("administer = [1000]", format!("2:14: `administer` {names}, not `[1000]`")),
        ("run.echo = true", format!("2:12: `echo` in [access.run] {names}, not `true`")),
        (
            "run.echo = ['-1']",
            "2:13: there is no user `-1` in /etc/passwd; correct the name, or give its number".to_owned(),
        ),
        (
            "run.'a b' = []",
            "2:5: `a b` is not a function name: it takes 1 to 128 characters out of A-Z a-z 0-9 _ - . : /"
                .to_owned(),
        ),
        ("conect = []", "2:1: unknown key `conect` in [access]; did you mean `connect`?".to_owned()),
    ];
    for (keys, expected) in cases {
        assert_eq!(mistake(format!("[access]\n{keys}")), expected, "of {keys:?}");
    }
}

// ---- mistakes ----------------------------------------------------------------------------------

#[test]
fn every_mistake_is_one_line_with_its_place_and_what_to_do() {
    let cases = [
        // Not TOML, or not text.
        ("socket = 'x", "1:12: not valid TOML: invalid literal string, expected `'`"),
        ("[limits", "1:8: not valid TOML: unclosed table, expected `]`"),
        ("results 3", "1:9: not valid TOML: key with no value, expected `=`"),
        ("\n[pool.cpu]\n[pool.cpu]", "3:7: not valid TOML: duplicate key"),
        // Keys that there are not.
        ("drain_timeut = '1s'", "1:1: unknown key `drain_timeut`; did you mean `drain_timeout`?"),
        ("\n  [pools.cpu]", "2:4: unknown key `pools`; did you mean `pool`?"),
        ("[pool.cpu]\nwrokers = 2", "2:1: unknown key `wrokers` in [pool.cpu]; did you mean `workers`?"),
        (
            "[restart]\nxyzzyx = 2",
            "2:1: unknown key `xyzzyx` in [restart]; the keys here are backoff_max, backoff_min, intensity, period",
        ),
        // Values of another kind.
        (
            "drain_timeout = 30",
            r#"1:17: `drain_timeout` takes a duration above zero such as "30s" or "1h 30m", not `30`"#,
        ),
        ("allow_fault_injection = 'yes'", "1:25: `allow_fault_injection` takes true or false, not `'yes'`"),
        (
            "socket_mode = 660",
            r#"1:15: `socket_mode` takes octal permission bits in quotes such as "0660", not `660`"#,
        ),
        ("socket_group = 3", "1:16: `socket_group` takes a text in quotes that is not empty, not `3`"),
        ("limits = 3", "1:10: [limits] is a table of keys, not `3`"),
        ("[limits]\nconnections = 1.5", "2:15: `connections` takes a whole number from 1, not `1.5`"),
        (
            "[limits]\nqueue_bytes = 'many'",
            r#"2:15: `queue_bytes` takes a size above zero such as "64 MiB" or a number of bytes, not `'many'`"#,
        ),
        ("[pool]\nworkers = 4", "2:11: [pool] holds only tables with a name such as [pool.NAME], not `4`"),
        ("[[pool.cpu]]", "1:1: [pool] holds only tables with a name such as [pool.NAME], not `[[pool.cpu]]`"),
        (
            "[pool.cpu]\nfunctions = 'echo'",
            r#"2:13: `functions` takes a list of texts such as ["one", "two"], not `'echo'`"#,
        ),
        (
            "[pool.cpu]\ncommand = 'python3 worker.py'",
            r#"2:11: `command` takes a list of texts such as ["one", "two"], not `'python3 worker.py'`"#,
        ),
        ("[pool.cpu.env]\nA = 3", "2:5: [pool.cpu.env] holds only texts in quotes, not `3`"),
        (
            "[pool.cpu]\nwhen_degraded = 'wait'",
            r#"2:17: `when_degraded` takes "queue" or "refuse", not `'wait'`"#,
        ),
        ("[pool.cpu]\nmax_attempts = 0", "2:16: `max_attempts` takes a whole number from 1, not `0`"),
        // Values out of range.
        ("socket = 'here.sock'", "1:10: `socket` takes a path that starts with `/`"),
        ("socket = ''", "1:10: `socket` takes a text in quotes that is not empty, not `''`"),
        (
            "socket_mode = '0888'",
            r#"1:15: `socket_mode` takes octal permission bits in quotes such as "0660", not `'0888'`"#,
        ),
        (
            "socket_mode = '01777'",
            r#"1:15: `socket_mode` takes octal permission bits in quotes such as "0660", not `'01777'`"#,
        ),
        (
            "socket_mode = '+660'",
            r#"1:15: `socket_mode` takes octal permission bits in quotes such as "0660", not `'+660'`"#,
        ),
        (
            "drain_timeout = '0s'",
            r#"1:17: `drain_timeout` takes a duration above zero such as "30s" or "1h 30m", not `'0s'`"#,
        ),
        ("[limits]\nconnections = 0", "2:15: `connections` takes a whole number from 1, not `0`"),
        ("[limits]\nresults = -1", "2:11: `results` takes a whole number from 1, not `-1`"),
        (
            "[limits]\nresult_bytes = '0 B'",
            r#"2:16: `result_bytes` takes a size above zero such as "64 MiB" or a number of bytes, not `'0 B'`"#,
        ),
        (
            "[restart]\nintensity = -1",
            "2:13: `intensity` takes a whole number from 0 to 4294967295, not `-1`",
        ),
        ("[pool.cpu]\nworkers = 0", "2:11: `workers` takes a whole number from 1 to 4096, not `0`"),
        ("[pool.cpu]\nworkers = 4097", "2:11: `workers` takes a whole number from 1 to 4096, not `4097`"),
        ("[pool.cpu]\nthreads = 257", "2:11: `threads` takes a whole number from 1 to 256, not `257`"),
        (
            "[pool.cpu]\nfunctions = []",
            r#"2:13: `functions` takes a list of texts such as ["one", "two"], not `[]`"#,
        ),
        ("[pool.'a b']", "1:7: `a b` is not a pool name: it takes 1 to 64 characters out of A-Z a-z 0-9 _ -"),
        (
            "[pool.cpu]\nfunctions = ['echo', 'is prime']",
            "2:22: `is prime` is not a function name: it takes 1 to 128 characters out of A-Z a-z 0-9 _ - . : /",
        ),
        (
            "[pool.cpu]\ncommand = ['']",
            "2:11: `command` starts with the name of a program, not an empty text",
        ),
        (
            "[pool.cpu.env]\n'A=B' = 'x'",
            "2:1: `A=B` is not a variable's name; it takes characters other than `=`",
        ),
        // Values that do not go together.
        (
            "[restart]\nbackoff_min = '31s'",
            "2:15: `backoff_min` (31s) is longer than `backoff_max` (30s); lower it or raise the other",
        ),
        (
            "[restart]\nbackoff_max = '1ms'",
            "2:15: `backoff_min` (50ms) is longer than `backoff_max` (1ms); lower it or raise the other",
        ),
        ("[pool.cpu]\nfunctions = ['echo',\n 'echo']", "3:2: `echo` is named twice; remove one of them"),
        (
            "[pool.cpu]\nenv.POOLD_WORKER = 'x'",
            "2:5: `POOLD_WORKER` is taken out of every worker's environment; choose another name",
        ),
        (
            "[pool.cpu]\nenv_pass = ['PATH', 'NOTIFY_SOCKET']",
            "2:21: `NOTIFY_SOCKET` is taken out of every worker's environment; choose another name",
        ),
        (
            "[pool.cpu]\nenv_pass = ['*_proxy']",
            "2:13: `*_proxy` is not a variable's name, nor the start of one with a `*` at its end",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(mistake(text), expected, "of {text:?}");
    }
}

#[test]
fn column_counts_characters_and_names_are_escaped() {
    assert_eq!(
        mistake("socket_group = 'Prüfer' x"),
        "1:25: not valid TOML: unexpected key or value, expected newline, `#`"
    );
    assert!(mistake(r#""a\nb\u001b" = 1"#).starts_with(r"1:1: unknown key `a\nb\u{1b}`;"));
    assert_eq!(
        mistake("drain_timeout = '''\n\n'''"),
        r#"1:17: `drain_timeout` takes a duration above zero such as "30s" or "1h 30m", not `'''\n\n'''`"#
    );
}

#[test]
fn long_wrong_value_is_cut() {
    let line = mistake(format!("allow_fault_injection = '{}'", "x".repeat(5000)));
    assert!(line.ends_with("x…`") && line.len() < 150, "{line}");
}

#[test]
fn file_that_is_not_utf8_is_a_mistake_at_its_place() {
    assert_eq!(mistake(b"# ok\n# \xff"), "2:3: not UTF-8; save the file as UTF-8");
}

#[test]
fn first_unknown_key_in_the_order_of_the_file_is_the_one_named() {
    assert!(mistake("zzz = 1\naaa = 1").starts_with("1:1: unknown key `zzz`;"));
}

#[test]
fn socket_path_longer_than_the_system_takes_is_refused() {
    let longest = format!("/{}", "x".repeat(limits::SOCKET_PATH_BYTES_MAX - 1));
    assert_eq!(
        read(&format!("socket = '{longest}'")).socket.unwrap().as_os_str().as_bytes(),
        longest.as_bytes()
    );
    let expected = "1:10: `socket`: the path takes 108 bytes and 107 is the most; choose a shorter one";
    assert_eq!(mistake(format!("socket = '{longest}x'")), expected);
}

/// From a fixed seed: the shipped file's settings, some bytes of it overwritten.
#[test]
fn damaged_file_is_read_or_refused_in_one_line() {
    let mut random = fastrand::Rng::with_seed(1);
    let shipped = shipped_with_settings();
    let mut refused = 0;
    for _ in 0..500 {
        let mut bytes = shipped.clone().into_bytes();
        for _ in 0..random.usize(1..4) {
            let position = random.usize(..bytes.len());
            bytes[position] = *random.choice(b"[]{}=\"'#.,\\\n 0a\xff").unwrap();
        }
        bytes.truncate(random.usize(..bytes.len()));
        if let Err(error) = File::new(&bytes).source().read() {
            refused += 1;
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }
    assert!((50..450).contains(&refused), "{refused} of 500 refused");
}

#[test]
fn missing_file_is_named_with_the_reason() {
    let source = Source { file: Some("/nowhere/poold.toml".into()), ..Source::default() };
    let line = source.read().unwrap_err().to_string();
    assert!(line.starts_with("/nowhere/poold.toml: cannot be read: No such file"), "{line}");
}

// ---- flags -------------------------------------------------------------------------------------

#[test]
fn flags_prevail_over_the_file() {
    let file = File::new("socket = '/a.sock'\n[pool.only]\nworkers = 2");
    let source = Source { socket: Some("b.sock".into()), workers: Some(3), ..file.source() };
    let config = source.read().unwrap();
    assert_eq!(config.socket.as_deref(), Some(Path::new("b.sock")));
    assert_eq!((config.pools[0].name.as_str(), config.pools[0].workers), ("only", 3));
}

#[test]
fn workers_flag_without_pools_in_the_file_is_for_the_default_pool_cpu() {
    let file = File::new("drain_timeout = '1s'");
    for source in [Source::default(), file.source()] {
        let config = Source { workers: Some(3), ..source }.read().unwrap();
        let workers: Vec<_> = config.pools.iter().map(|pool| (pool.name.as_str(), pool.workers)).collect();
        assert_eq!(workers, [("cpu", 3), ("io", 1)]);
    }
}

#[test]
fn workers_flag_with_several_pools_is_refused() {
    let file = File::new("[pool.b]\n[pool.a]");
    let line = Source { workers: Some(3), ..file.source() }.read().unwrap_err().to_string();
    let path = file.path.display();
    assert_eq!(
        line,
        format!("--workers: {path} has several pools (b, a); set `workers` of each in the file")
    );
}

#[test]
fn socket_flag_that_no_socket_can_have_is_refused() {
    let line = Source { socket: Some("".into()), ..Source::default() }.read().unwrap_err().to_string();
    assert_eq!(line, "--socket: the path is empty; name a path");
}

/// Standard output, standard error and exit status of `poold` with these arguments.
fn poold(args: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_poold")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn check_config_says_ok_of_a_good_file() {
    let file = File::new(SHIPPED);
    let path = file.path.to_str().unwrap();
    let expected = (format!("{path}: ok\n"), String::new(), Some(0));
    assert_eq!(poold(&["--check-config", "--config", path]), expected);
}

#[test]
fn mistake_in_the_file_exits_2_with_its_place() {
    let file = File::new("socket = 3");
    let path = file.path.to_str().unwrap();
    let line = format!("{path}:1:10: `socket` takes a text in quotes that is not empty, not `3`\n");
    for args in [&["--config", path][..], &["--config", path, "--check-config"]] {
        assert_eq!(poold(args), (String::new(), line.clone(), Some(2)));
    }
}

#[test]
fn wrong_flags_exit_2_with_one_line() {
    let cases = [
        (
            &["--sokcet", "x"][..],
            "unexpected argument '--sokcet' found; a similar argument exists: '--socket'",
        ),
        (&["--workers", "0"], "invalid value '0' for '--workers <N>': 0 is not in 1..=4096"),
        (&["--config"], "a value is required for '--config <FILE>' but none was supplied"),
        (&["start"], "unexpected argument 'start' found"),
    ];
    for (args, what) in cases {
        assert_eq!(
            poold(args),
            (String::new(), format!("poold: {what}; `poold --help` says more\n"), Some(2))
        );
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for flag in ["--help", "-h", "--version"] {
        let (stdout, stderr, status) = poold(&[flag]);
        assert!(!stdout.is_empty() && stderr.is_empty(), "{flag}: {stdout}{stderr}");
        assert_eq!(status, Some(0));
    }
}

// ---- reload ------------------------------------------------------------------------------------

/// What a reload of `before` that finds `after` says.
fn reloaded(before: &str, after: &str) -> Result<Vec<String>, String> {
    let file = File::new(before);
    let old = file.source().read().unwrap();
    file.write(after);
    match reload(&file.source(), &old) {
        Ok((new, changes)) => {
            assert_eq!(new, file.source().read().unwrap());
            Ok(changes)
        }
        Err(error) => Err(error.to_string().replace(file.path.to_str().unwrap(), "FILE")),
    }
}

#[test]
fn reload_of_an_equal_file_changes_nothing() {
    assert_eq!(reloaded("", "# the same\n"), Ok(vec![]));
}

#[test]
fn reload_lists_every_change() {
    let before = "[pool.a]\nworkers = 2\n[pool.b]\nworkers = 1\n[pool.c]";
    let after = r#"
        socket_mode = "0600"
        socket_group = "staff"
        allow_fault_injection = true
        drain_timeout = "90s"
        access.connect = ["root", "@7"]
        access.run.echo = ["5"]
        access.run.fail = ["*"]
        access.run.run = ["*"]
        limits.queue_bytes = "1 KiB"
        restart.intensity = 7
        [pool.d]
        workers = 5
        [pool.b]
        workers = 1
        threads = 8
        functions = ["echo"]
        except = ["fail"]
        command = ["python3", "worker.py"]
        env_pass = ["*"]
        env.TOKEN = "secret"
        [pool.a]
        workers = 4
        env_pass = []
        sandbox = false
        timeout = "1s"
    "#;
    let default = EnvironmentPass::default().to_string();
    let expected = [
        "socket_mode 0660 -> 0600",
        "socket_group none -> staff",
        "allow_fault_injection false -> true",
        "access.connect * -> 0, @7",
        "drain_timeout 30s -> 1m 30s",
        "limits.queue_bytes 1073741824 -> 1024",
        "limits.user_bytes 536870912 -> 512",
        "restart.intensity 5 -> 7",
        "access.run.echo * -> 5",
        "access.run.run nobody -> *",
        "pool d: added, workers 5",
        "pool b: threads 1 -> 8",
        "pool b: functions all -> echo",
        "pool b: except none -> fail",
        r#"pool b: command built in -> ["python3", "worker.py"]"#,
        &format!("pool b: env_pass {default} -> *"),
        "pool b: env changed",
        "pool a: workers 2 -> 4",
        "pool a: timeout none -> 1s",
        &format!("pool a: env_pass {default} -> none"),
        "pool a: sandbox true -> false",
        "pool c: removed",
        "order of pools a, b -> b, a",
    ];
    assert_eq!(reloaded(before, after), Ok(expected.map(str::to_owned).into()));
}

#[test]
fn reload_refuses_another_socket_by_name() {
    let line = Err("socket cannot change while running: restart poold".to_owned());
    assert_eq!(reloaded("", "socket = '/a'"), line);
    assert_eq!(reloaded("socket = '/a'", "socket = '/b'"), line);
    assert_eq!(reloaded("socket = '/a'", ""), line);
}

#[test]
fn reload_of_a_file_with_a_mistake_says_where() {
    let line = "FILE:1:10: `socket` takes a text in quotes that is not empty, not `3`";
    assert_eq!(reloaded("", "socket = 3"), Err(line.to_owned()));
}

#[test]
fn reload_keeps_the_flags_over_the_file() {
    let file = File::new("[pool.cpu]\nworkers = 2");
    let source = Source { workers: Some(3), socket: Some("/a".into()), ..file.source() };
    let old = source.read().unwrap();
    file.write("socket = '/b'\n[pool.cpu]\nworkers = 4");
    assert_eq!(reload(&source, &old).unwrap(), (old, vec![]));
}

#[test]
fn reload_without_a_file_is_refused() {
    let source = Source::default();
    let line = reload(&source, &source.read().unwrap()).unwrap_err().to_string();
    assert_eq!(line, "poold was started without --config and has no file to read again; restart it with one");
}

#[test]
fn function_of_the_shipped_example_is_accepted() {
    let start = SHIPPED.find("[function.thumbnail]").unwrap();
    let examples = SHIPPED[start..].lines().filter_map(|line| line.strip_prefix("#   "));
    let examples = examples.filter(|line| !line.starts_with("stdin") && !line.starts_with("args"));
    let text: Vec<&str> = std::iter::once("[function.thumbnail]").chain(examples).collect();
    let config = read(&text.join("\n"));
    let [function] = config.functions.as_slice() else { panic!("{config:?}") };
    assert_eq!(function.timeout, Some(Duration::from_secs(20)));
    let command = function.command.as_ref().unwrap();
    assert_eq!((command.args_min, command.args_max), (2, 2));
    assert_eq!(command.env.len(), 1);
    assert!(command.options);
    assert_eq!(command.limits, function.limits);
    assert_eq!(command.limits.memory_bytes, Some(512 << 20));
}

#[test]
fn function_takes_as_many_arguments_as_have_a_place() {
    let counts = |keys: &str| {
        let config = read(&format!("[function.f]\n{keys}"));
        let command = config.functions[0].command.as_ref().unwrap();
        (command.args_min, command.args_max)
    };
    assert_eq!(counts("exec = ['x']"), (0, 0));
    assert_eq!(counts("exec = ['x', '{1}', '{0}{0}']\nargs = 2"), (2, 2));
    assert_eq!(counts("exec = ['x', '{0}']\nstdin = 1"), (2, 2));
    assert_eq!(counts("exec = ['x', '{0}', '{*}']"), (1, limits::COMMAND_ARGUMENTS_MAX));
    assert_eq!(counts("exec = ['x', '{*}']\nargs = { max = 3 }"), (0, 3));
    assert_eq!(counts("exec = ['x', '{*}']\nargs = { min = 2, max = 3 }"), (2, 3));
    assert_eq!(counts("exec = ['x', '{*}']\nargs = 3"), (3, 3));
}

#[test]
fn mistakes_in_a_function_are_told_with_their_place() {
    let cases = [
        ("", "1:1: function `f` has no `exec`; name the program and its arguments"),
        ("exec = []", "2:8: `exec` takes a list of texts"),
        ("exec = ['']", "2:9: the program is named in the file"),
        ("exec = ['{0}']", "2:9: the program is named in the file; an argument cannot choose it"),
        ("exec = ['x', 'a{*}']", "2:14: `{*}` stands for any number of words"),
        ("exec = ['x', '{9999}']", "2:14: `{9999}` is beyond the last argument"),
        ("exec = ['x', '-{0}']", "2:14: `-{0}` lets an argument choose an option"),
        ("exec = ['sh', '-c', 'cat {0}']", "2:21: an argument here would be run as a part of the script"),
        ("exec = ['/bin/bash', '-euc', '{0}']", "2:30: an argument here would be run"),
        ("exec = ['env', 'bash', '-c', '{*}']", "2:30: an argument here would be run"),
        ("exec = ['x', '{1}']", "2:8: `{0}` has no place while later arguments have"),
        ("exec = ['x', '{0}']\nargs = 2", "3:8: `args` does not go with `exec` and `stdin`, which take 1"),
        (
            "exec = ['x', '{0}', '{*}']\nargs = 0",
            "3:8: `args` does not go with `exec` and `stdin`, which take at",
        ),
        ("exec = ['x', '{*}']\nargs = { mn = 1 }", "3:8: `args` takes a number of arguments"),
        ("exec = ['x', '{*}']\nargs = { min = 2, max = 1 }", "3:8: `args` takes a number of arguments"),
        ("exec = ['x', '{0}']\npatterns = ['a', 'b']", "3:12: `patterns` has 2 and the function takes 1"),
        ("exec = ['x', '{0}']\npatterns = ['(']", "3:13: `(` is not a regular expression"),
        ("exec = ['x', '{0}']\npatterns = ['a)|(?:b']", "3:13: `a)|(?:b` is not a regular expression"),
        ("exec = ['x']\ncwd = 'here'", "3:7: `cwd` takes a path that starts with `/`"),
        ("exec = ['x']\nshell = true", "3:1: unknown key `shell` in [function.f]"),
    ];
    for (keys, expected) in cases {
        let line = mistake(format!("[function.f]\n{keys}"));
        assert!(line.starts_with(expected), "{keys}: {line}");
    }
    let line = mistake("[function.run]\nexec = ['x']");
    assert!(line.starts_with("1:11: `run` is what `poolctl run` calls"), "{line}");
}

#[test]
fn option_may_be_chosen_where_the_file_says_so() {
    read("[function.f]\nexec = ['x', '-{0}']\noptions = true");
    read("[function.f]\nexec = ['x', '--', '-{0}']");
    read("[function.f]\nexec = ['sh', '-c', 'cat \"$1\"', '--', '{0}']");
}

#[test]
fn function_without_a_command_may_be_limited() {
    let config = read("[pool.a]\ncpu_time = '2s'\n[function.is_prime]\nmemory = '1 GiB'\ntimeout = '3s'");
    let is_prime: FunctionName = "is_prime".parse().unwrap();
    let limits = config.work_limits_of(&config.pools[0]);
    assert_eq!(limits.of(&is_prime).memory_bytes, Some(1 << 30));
    assert_eq!(limits.of(&is_prime).cpu_time, Some(Duration::from_secs(2)));
    assert_eq!(limits.of(&"echo".parse().unwrap()).memory_bytes, None);
    assert_eq!(config.policy(Uid(0), None).function_timeouts[&is_prime], Duration::from_secs(3));
    assert!(config.commands_of(&config.pools[0]).is_empty());
}

#[test]
fn limit_of_attempts_that_share_a_process_is_refused_where_it_stands() {
    let line = mistake("[pool.a]\nthreads = 2\ncpu_time = '1s'");
    assert!(line.starts_with("3:12: `cpu_time` is for one attempt at a time"), "{line}");
    let line = mistake("[pool.a]\n[pool.b]\nthreads = 2\n[function.is_prime]\nmemory = '1 GiB'");
    assert!(
        line.starts_with("4:11: `is_prime` shares its process with other attempts in pool `b`"),
        "{line}"
    );
    read("[pool.a]\n[pool.b]\nthreads = 2\nexcept = ['is_prime']\n[function.is_prime]\nmemory = '1 GiB'");
    read("[pool.b]\nthreads = 2\n[function.f]\nexec = ['x']\nmemory = '1 GiB'");
    read("[pool.b]\nthreads = 2\n[function.is_prime]\ntimeout = '1s'");
}

#[test]
fn changed_function_replaces_the_workers_that_have_it() {
    let before = read("[pool.a]\n[pool.b]\ncommand = ['x']\n[function.f]\nexec = ['x']");
    let policy = before.policy(Uid(0), None);
    let revisions_after = |function: &str| -> Vec<u64> {
        let after = read(&format!("[pool.a]\n[pool.b]\ncommand = ['x']\n{function}"));
        after.policy(Uid(0), Some((&before, &policy))).pools.iter().map(|pool| pool.revision).collect()
    };
    assert_eq!(revisions_after("[function.f]\nexec = ['x']\ntimeout = '1s'"), [0, 0]);
    assert_eq!(revisions_after("[function.f]\nexec = ['y']"), [1, 0]);
    assert_eq!(revisions_after(""), [1, 0]);
}

#[test]
fn revision_grows_only_with_a_change_of_how_workers_are_started() {
    let before = read("[pool.a]\nworkers = 1\n[pool.b]\nworkers = 1");
    let policy = before.policy(Uid(0), None);
    let revisions_after = |text: &str| -> Vec<u64> {
        let after = read(text).policy(Uid(0), Some((&before, &policy)));
        after.pools.iter().map(|pool| pool.revision).collect()
    };
    assert_eq!(
        revisions_after("[pool.a]\nworkers = 9\ngrace = '9s'\n[pool.b]\nfunctions = ['echo']"),
        [0, 0]
    );
    assert_eq!(revisions_after("[pool.b]\n[pool.a]\ncommand = ['x']"), [0, 1]);
    assert_eq!(revisions_after("[pool.a]\nenv.A = 'x'\n[pool.c]"), [1, 0]);
    assert_eq!(revisions_after("[pool.a]\nthreads = 2\n[pool.b]\nexcept = ['echo']"), [1, 0]);
    assert_eq!(revisions_after("allow_fault_injection = true\n[pool.a]\n[pool.b]"), [1, 1]);
    assert_eq!(revisions_after("[pool.a]\nenv_pass = ['*']\n[pool.b]\nsandbox = false"), [1, 1]);
    assert_eq!(revisions_after("[pool.a]\nmemory = '1 GiB'\n[pool.b]\ncore = 1"), [1, 1]);
    let except = "[pool.a]\n[pool.b]\nexcept = ['is_prime']\n[function.is_prime]\ncpu_time = '1s'";
    assert_eq!(revisions_after(except), [1, 0]);
}

#[test]
fn revision_grows_from_the_one_in_force() {
    let [one, two] = [read("[pool.a]\ncommand = ['x']"), read("[pool.a]\ncommand = ['y']")];
    let first = one.policy(Uid(0), None);
    let second = two.policy(Uid(0), Some((&one, &first)));
    let third = one.policy(Uid(0), Some((&two, &second)));
    assert_eq!([&first, &second, &third].map(|policy| policy.pools[0].revision), [0, 1, 2]);
}
