//! Who can do what, user by user, on real daemons: as a table, each cell of which is a try. Root only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use support::{Daemon, assert_error, parts, text};

/// Who may do what where the table is about it. Alice is in the group 64100, Bob in 64200.
const RULES: &str = r#"
administer = ["64001"]
[access.run]
is_prime = ["@64100"]
run = ["64002"]
"*" = ["@64100", "@64200"]
echo = ["*"]
"#;

/// Those who are let in as long as nothing else is said.
const MEMBERS: &str = r#"connect = ["@64100", "@64200"]"#;
const EVERYONE: &str = r#"connect = ["*"]"#;

/// Some user, who runs programs by setpriv(1).
#[derive(Clone, Copy)]
struct Person {
    name: &'static str,
    uid: u32,
    gid: u32,
    /// A supplementary group, the last one of more than anybody expects.
    group: Option<u32>,
}

const ROOT: Person = Person { name: "root", uid: 0, gid: 0, group: None };
/// The user that the daemon runs as.
const DAEMON: Person = Person { name: "poold", uid: 64000, gid: 64000, group: None };
const ALICE: Person = Person { name: "alice", uid: 64001, gid: 64100, group: None };
const BOB: Person = Person { name: "bob", uid: 64002, gid: 64002, group: Some(64200) };
/// She is in neither group.
const CAROL: Person = Person { name: "carol", uid: 64003, gid: 64003, group: None };

impl Person {
    /// `program`, run by this user.
    fn command(self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        match self.group {
            Some(group) => {
                let groups: Vec<String> =
                    (64300..64340).chain([group]).map(|group| group.to_string()).collect();
                command.arg(format!("--groups={}", groups.join(",")))
            }
            None => command.arg("--clear-groups"),
        };
        command.arg("--").arg(program);
        command
    }

    fn poolctl(self, daemon: &Daemon, args: &[&str]) -> Command {
        let mut command = self.command(&daemon.dir.path().join("poolctl"));
        command.args(args).env("POOLD_SOCKET", &daemon.socket).current_dir("/").stdin(Stdio::null());
        command
    }

    fn run(self, daemon: &Daemon, args: &[&str]) -> Output {
        self.poolctl(daemon, args).output().unwrap()
    }

    fn start(self, daemon: &Daemon, args: &[&str]) -> Child {
        let mut command = self.poolctl(daemon, args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Submits a detached task and gives its id.
    fn detach(self, daemon: &Daemon, args: &[&str]) -> String {
        let (status, id, error) = parts(&self.run(daemon, &[&["submit", "--detach"], args].concat()));
        assert_eq!((status, error), (0, String::new()));
        id.trim().to_owned()
    }
}

/// Whether there is a way to be another user; says so if not.
fn can_be_others() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can act as another user");
    }
    is_root
}

fn config(access: &str, limits: &str) -> String {
    format!("socket_mode = \"0666\"\n[limits]\n{limits}\n[pool.cpu]\nworkers = 1\n[access]\n{access}\n")
}

/// A daemon of the user [`DAEMON`] with this configuration, in a directory where everyone finds `poolctl`.
fn daemon(config: &str) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    chown(&path, Some(DAEMON.uid), Some(DAEMON.gid)).unwrap();
    std::fs::write(path.join("poold.toml"), config).unwrap();
    for (program, name) in
        [(env!("CARGO_BIN_EXE_poold"), "poold"), (env!("CARGO_BIN_EXE_poolctl"), "poolctl")]
    {
        std::fs::copy(program, path.join(name)).unwrap();
    }
    let mut daemon = Daemon::launch_in(directory, |command| {
        std::fs::set_permissions(path.join("notify.sock"), PermissionsExt::from_mode(0o666)).unwrap();
        let mut as_user = DAEMON.command(&path.join("poold"));
        as_user.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => as_user.env(name, value),
                None => as_user.env_remove(name),
            };
        }
        as_user.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        *command = as_user;
    });
    daemon.wait_until_ready();
    daemon
}

/// What a user's try comes to: `yes`, or `no` if it was refused in one line with the documented status.
fn cell(output: &Output, refused_status: i32) -> &'static str {
    let (status, _, error) = parts(output);
    if status == 0 {
        return "yes";
    }
    assert_error(output, refused_status, &["not allowed"]);
    assert!(["access.", "belongs to uid"].iter().any(|reason| error.contains(reason)), "{error}");
    "no"
}

/// Who did what on `daemon`, a cell for each of [`WHAT`].
fn column(daemon: &Daemon, who: Person) -> Vec<&'static str> {
    let do_it = |args: &[&str]| cell(&who.run(daemon, args), 4);
    let of = |owner: Person| {
        let done = owner.detach(daemon, &["echo", "a secret"]);
        assert_eq!(parts(&owner.run(daemon, &["wait", &done])).1, "a secret\n");
        let delayed = owner.detach(daemon, &["--delay", "1h", "echo", "a secret"]);
        [do_it(&["result", &done]), do_it(&["wait", &done]), do_it(&["cancel", &delayed])]
    };
    let listing = who.run(daemon, &["tasks", "--json"]);
    assert!(!text(&listing.stdout).contains("secret"), "{listing:?}");
    let mut cells = vec![
        do_it(&["status"]),
        do_it(&["submit", "is_prime", "7"]),
        do_it(&["submit", "echo", "x"]),
        do_it(&["submit", "sleep", "0"]),
        cell(&who.run(daemon, &["run", "true"]), 125),
        cell(&listing, 4),
        do_it(&["workers"]),
        do_it(&["functions"]),
    ];
    cells.extend([of(ALICE), of(BOB)].concat());
    cells.push(do_it(&["reload"]));
    cells
}

/// What is tried; the last one on a daemon of its own, since it ends it.
const WHAT: [&str; 16] = [
    "connect",
    "submit is_prime (for 64100)",
    "submit echo (for everyone)",
    "submit sleep (for 64100, 64200)",
    "run a command (for bob)",
    "list tasks",
    "list workers",
    "list functions",
    "read alice's result",
    "wait for alice's task",
    "cancel alice's task",
    "read bob's result",
    "wait for bob's task",
    "cancel bob's task",
    "reload (for alice)",
    "drain (for alice)",
];

const TABLE: &str = "\
what                             root   poold  alice  bob    carol  carol, let in
connect                          yes    yes    yes    yes    no     yes
submit is_prime (for 64100)      yes    yes    yes    no     no     no
submit echo (for everyone)       yes    yes    yes    yes    no     yes
submit sleep (for 64100, 64200)  yes    yes    yes    yes    no     no
run a command (for bob)          yes    yes    no     yes    no     no
list tasks                       yes    yes    yes    yes    no     yes
list workers                     yes    yes    yes    yes    no     yes
list functions                   yes    yes    yes    yes    no     yes
read alice's result              yes    yes    yes    no     no     no
wait for alice's task            yes    yes    yes    no     no     no
cancel alice's task              yes    yes    yes    no     no     no
read bob's result                yes    yes    no     yes    no     no
wait for bob's task              yes    yes    no     yes    no     no
cancel bob's task                yes    yes    no     yes    no     no
reload (for alice)               yes    yes    yes    no     no     no
drain (for alice)                yes    yes    yes    no     no     no
";

#[test]
fn everyone_can_do_what_the_table_says_and_nothing_else() {
    if !can_be_others() {
        return;
    }
    let columns = [
        (ROOT, MEMBERS, "root"),
        (DAEMON, MEMBERS, DAEMON.name),
        (ALICE, MEMBERS, ALICE.name),
        (BOB, MEMBERS, BOB.name),
        (CAROL, MEMBERS, CAROL.name),
        (CAROL, EVERYONE, "carol, let in"),
    ];
    let mut table = format!("{:33}", "what");
    let mut rows: Vec<String> = WHAT.iter().map(|what| format!("{what:33}")).collect();
    let daemon = daemon(&config(&format!("{MEMBERS}{RULES}"), ""));
    for (who, connect, title) in columns {
        let rules = config(&format!("{connect}{RULES}"), "");
        daemon.configure(&rules);
        assert_eq!(parts(&ROOT.run(&daemon, &["reload"])).0, 0);
        let mut cells = column(&daemon, who);
        let drained = self::daemon(&rules);
        cells.push(cell(&who.run(&drained, &["drain"]), 4));
        table.push_str(&format!("{title:7}"));
        for (row, cell) in rows.iter_mut().zip(cells) {
            row.push_str(&format!("{cell:7}"));
        }
    }
    let lines: Vec<String> = [vec![table], rows].concat();
    let table: String = lines.iter().map(|line| format!("{}\n", line.trim_end())).collect();
    println!("{table}");
    assert_eq!(table, TABLE);
}

#[test]
fn user_who_is_no_longer_let_in_is_told_so_and_the_tasks_end() {
    if !can_be_others() {
        return;
    }
    let mut daemon = daemon(&config(EVERYONE, ""));
    let submit = BOB.start(&daemon, &["submit", "sleep", "1000"]);
    daemon.wait_for_log("started");
    let detached = BOB.detach(&daemon, &["--delay", "1h", "echo", "x"]);
    daemon.configure(&config(r#"connect = ["@64100"]"#, ""));
    assert_eq!(parts(&ROOT.run(&daemon, &["reload"])).1, "access.connect * -> @64100\n");
    assert_error(&submit.wait_with_output().unwrap(), 4, &["not allowed", "access.connect"]);
    daemon.wait_for_log("refused connection");
    daemon.wait_for_log("cancelled (client_gone)");
    assert_error(&BOB.run(&daemon, &["status"]), 4, &["not allowed", "access.connect"]);
    daemon.wait_for_log("turned away a connection (uid 64002): access.connect does not name it");
    assert_eq!(parts(&ROOT.run(&daemon, &["cancel", &detached])).0, 0, "what is detached stays");

    let submit = ALICE.start(&daemon, &["submit", "sleep", "1000"]);
    daemon.wait_for_log("started");
    daemon.configure(&config(r#"connect = []"#, ""));
    daemon.signal(Signal::HUP);
    assert_error(&submit.wait_with_output().unwrap(), 4, &["not allowed", "access.connect"]);
}

#[test]
fn administrator_who_takes_the_right_away_has_the_answer_to_that() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&config("connect = []\nadminister = [\"64001\"]", ""));
    daemon.configure(&config("connect = []", ""));
    assert_eq!(parts(&ALICE.run(&daemon, &["reload"])).1, "access.administer 64001 -> nobody\n");
    assert_error(&ALICE.run(&daemon, &["reload"]), 4, &["not allowed"]);
}

#[test]
fn rule_for_a_function_that_no_pool_has_is_warned_of() {
    let mut daemon = Daemon::start("[access.run]\nis_prme = [\"root\"]\nrun = []\n");
    daemon.wait_for_log("access.run names `is_prme`, a function that no pool has");
    daemon.configure("[access.run]\nis_prime = [\"root\"]\necko = []\n");
    assert_eq!(parts(&daemon.run(&["reload"])).0, 0);
    daemon.wait_for_log("access.run names `ecko`");
    assert!(!daemon.log_so_far().iter().any(|line| line.contains("names `is_prime`")));
}

#[test]
fn user_with_all_the_connections_of_one_user_is_refused_another_and_others_are_not() {
    if !can_be_others() {
        return;
    }
    let mut daemon = daemon(&config("", "user_connections = 1"));
    let mut submit = BOB.start(&daemon, &["submit", "sleep", "1000"]);
    daemon.wait_for_log("started");
    assert_error(&BOB.run(&daemon, &["status"]), 4, &["your user", "limits.user_connections"]);
    daemon.wait_for_log("turned away a connection (uid 64002): it has 1 open");
    for other in [ALICE, ROOT, DAEMON] {
        assert_eq!(parts(&other.run(&daemon, &["status"])).0, 0, "{}", other.name);
    }
    assert_eq!(daemon.json(&["status"])["refusals"], 1);
    submit.kill().unwrap();
    submit.wait().unwrap();
    daemon.wait_for_log("cancelled (client_gone)");
    assert_eq!(parts(&BOB.run(&daemon, &["status"])).0, 0);
}

#[test]
fn user_with_all_the_tasks_of_one_user_is_refused_another_and_others_are_not() {
    if !can_be_others() {
        return;
    }
    let mut daemon = daemon(&config("", "user_tasks = 2\nuser_bytes = 10\nuser_results = 1"));
    let submit = |who: Person, argument: &str| {
        who.run(&daemon, &["submit", "--detach", "--delay", "1h", "echo", argument])
    };
    assert_error(&submit(BOB, "more than ten bytes"), 4, &["your user", "limits.user_bytes"]);
    for _ in 0..2 {
        assert_eq!(parts(&submit(BOB, "x")).0, 0);
    }
    assert_error(&submit(BOB, "x"), 4, &["your user", "2 tasks", "limits.user_tasks"]);
    for other in [ALICE, ROOT, DAEMON] {
        assert_eq!(parts(&submit(other, "x")).0, 0, "{}", other.name);
    }
    assert_eq!(daemon.json(&["status"])["refusals"], 2);
    daemon.wait_for_log("refused connection");

    let first = ALICE.detach(&daemon, &["echo", "1"]);
    assert_eq!(parts(&ALICE.run(&daemon, &["wait", &first])).1, "1\n");
    let second = ALICE.detach(&daemon, &["echo", "2"]);
    assert_eq!(parts(&ALICE.run(&daemon, &["wait", &second])).1, "2\n");
    assert_error(&ALICE.run(&daemon, &["result", &first]), 4, &["no task"]);
}
