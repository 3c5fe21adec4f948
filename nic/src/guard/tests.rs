//! The guard over settings in memory, and its file in a folder of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use super::*;

/// A NIC's settings, which outlive whoever changes them. Setting channels sets the table anew, as drivers do.
#[derive(Debug, Clone, Default)]
struct Fake(Rc<RefCell<BTreeMap<String, String>>>);

impl Fake {
    fn new() -> Self {
        let fake = Self::default();
        for (setting, value) in
            [("mtu", "1500"), ("channels", "combined 4"), ("rss-table", "3 2 1 0"), ("feature lro", "on")]
        {
            fake.set(setting, value);
        }
        fake
    }

    fn set(&self, setting: &str, value: &str) {
        self.0.borrow_mut().insert(setting.to_owned(), value.to_owned());
    }

    fn all(&self) -> BTreeMap<String, String> {
        self.0.borrow().clone()
    }
}

impl Knobs for Fake {
    fn read(&self, setting: &Setting) -> io::Result<String> {
        let missing = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        self.0.borrow().get(&setting.to_string()).cloned().ok_or_else(missing)
    }

    fn write(&mut self, setting: &Setting, value: &str) -> io::Result<()> {
        if value == "refused" {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // A driver that says no, or yes and does nothing, so many times.
        let busy = self.0.borrow().get("busy").map_or(0, |times| times.parse().unwrap_or(0));
        if busy > 0 {
            self.set("busy", &(busy - 1).to_string());
            return if busy % 2 == 0 { Err(io::Error::from_raw_os_error(libc::EBUSY)) } else { Ok(()) };
        }
        self.set(&setting.to_string(), if value == "ignored" { "1500" } else { value });
        if *setting == Setting::Channels {
            self.set("rss-table", if value == "combined 4" { "0 1 2 3" } else { "0 1 0 1" });
        }
        Ok(())
    }
}

/// A folder that is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("sidestep-guard-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn guard(fake: &Fake, folder: &Folder) -> Guard<Fake> {
    let record = Record::new("eth7".to_owned(), 7, Program::Server, std::process::id()).expect("/proc is there");
    Guard { knobs: fake.clone(), gone: false, patience: Duration::ZERO, path: record.path(&folder.0), record }
}

fn lines(outcomes: Vec<Outcome>) -> Vec<String> {
    outcomes.iter().map(Outcome::to_string).collect()
}

#[test]
fn settings_come_back_in_reverse_order_with_what_their_change_has_disturbed() {
    let (fake, folder) = (Fake::new(), Folder::new("reverse"));
    let before = fake.all();
    let mut guard = guard(&fake, &folder);
    assert_eq!(guard.change(&Setting::Mtu, "1500").expect("it is so already"), Changed::Already);
    assert!(!guard.path.exists(), "nothing was changed");
    guard.change(&Setting::Channels, "combined 2").expect("it can");
    guard.change(&Setting::Mtu, "1400").expect("it can");
    guard.change(&Setting::Mtu, "1300").expect("it can");
    assert!(guard.path.exists());
    let said = lines(guard.restore());
    assert_eq!(said, ["mtu is 1500 again", "channels is combined 4 again", "rss-table is 3 2 1 0 again"]);
    assert_eq!(fake.all(), before);
    assert!(!guard.path.exists(), "nothing is left to give back");
}

#[test]
fn what_somebody_else_has_changed_is_said_and_left_alone() {
    let (fake, folder) = (Fake::new(), Folder::new("foreign"));
    let mut guard = guard(&fake, &folder);
    guard.change(&Setting::Mtu, "1400").expect("it can");
    guard.change(&Setting::Feature("lro".to_owned()), "off").expect("it can");
    fake.set("mtu", "9000");
    let said = lines(guard.restore());
    assert_eq!(said[0], "feature lro is on again");
    assert_eq!(
        said[1],
        "mtu was 1500, was set to 1400, and somebody has made it 9000 since: left so; as before: ip link set eth7 mtu 1500"
    );
    assert_eq!(fake.all()["mtu"], "9000");
}

#[test]
fn a_process_that_dies_leaves_a_file_that_gives_everything_back() {
    let (fake, folder) = (Fake::new(), Folder::new("crash"));
    let before = fake.all();
    let mut first = guard(&fake, &folder);
    first.change(&Setting::Channels, "combined 2").expect("it can");
    first.change(&Setting::Feature("lro".to_owned()), "off").expect("it can");
    let path = first.path.clone();
    std::mem::forget(first);

    let found = left_behind("eth7", &folder.0).expect("the folder can be read");
    assert!(left_behind("eth", &folder.0).expect("it can").is_empty(), "another interface");
    assert_eq!((found.len(), found[0].path(), found[0].holder()), (1, path.as_path(), Some(std::process::id())));
    let LeftBehind { record, path } = found.into_iter().next().expect("one");
    let mut second = Guard { knobs: fake.clone(), gone: false, patience: Duration::ZERO, path, record };
    assert_eq!(second.restore().len(), 3);
    assert_eq!(fake.all(), before);
    assert!(left_behind("eth7", &folder.0).expect("it can").is_empty());
}

#[test]
fn what_is_refused_or_not_done_is_said_and_nothing_is_changed_that_cannot_be_saved() {
    let (fake, folder) = (Fake::new(), Folder::new("refused"));
    let before = fake.all();
    let mut guard = guard(&fake, &folder);
    let said = |result: Result<Changed, GuardError>| result.expect_err("it cannot").to_string();
    assert!(said(guard.change(&Setting::Mtu, "refused")).starts_with("mtu cannot be set to refused: Invalid"));
    assert_eq!(said(guard.change(&Setting::Mtu, "ignored")), "mtu was set to ignored, and is 1500");
    assert!(said(guard.change(&Setting::RssKey, "00")).starts_with("rss-key cannot be read"));
    guard.path = "/proc/sidestep/no-such-folder/eth7.toml".into();
    assert!(said(guard.change(&Setting::Mtu, "1400")).contains("so it stays as it is"));
    assert_eq!(fake.all(), before);
    assert_eq!(lines(guard.restore()), ["mtu is as it was"]);
}

#[test]
fn what_a_program_that_is_being_detached_keeps_from_being_given_back_is_tried_again() {
    let (fake, folder) = (Fake::new(), Folder::new("busy"));
    let before = fake.all();
    let mut guard = guard(&fake, &folder);
    guard.change(&Setting::Feature("lro".to_owned()), "off").expect("it can");
    fake.set("busy", "5");
    let failed = lines(guard.restore());
    assert_eq!(failed, ["feature lro cannot be set back to on: it is off all the same"], "once, without patience");
    assert!(guard.path.exists(), "it is still to be given back");
    guard.patience = Duration::from_secs(3_600);
    assert_eq!(lines(guard.restore()), ["feature lro is on again"]);
    assert!(!guard.path.exists());
    fake.0.borrow_mut().remove("busy");
    assert_eq!(fake.all(), before);
    // One that cannot be read is waited for no longer.
    guard.change(&Setting::Mtu, "1400").expect("it can");
    fake.0.borrow_mut().remove("mtu");
    assert!(lines(guard.restore())[0].starts_with("mtu cannot be set back to 1500: "));
}

#[test]
fn settings_of_an_interface_that_is_gone_are_forgotten() {
    let (fake, folder) = (Fake::new(), Folder::new("gone"));
    let mut guard = guard(&fake, &folder);
    guard.change(&Setting::Mtu, "1400").expect("it can");
    guard.gone = true;
    assert_eq!(lines(guard.restore()), ["interface eth7 is gone, and its settings with it"]);
    assert!(!guard.path.exists());
}

#[test]
fn settings_of_the_machine_are_given_back_though_the_interface_is_gone() {
    let (fake, folder) = (Fake::new(), Folder::new("machine"));
    fake.set("reserved-port 11211", "off");
    let mut guard = guard(&fake, &folder);
    guard.change(&Setting::Mtu, "1400").expect("it can");
    guard.change(&Setting::ReservedPort(11211), "on").expect("it can");
    guard.gone = true;
    let said = ["interface eth7 is gone, and its settings with it", "reserved-port 11211 is off again"];
    assert_eq!(lines(guard.restore()), said);
    assert_eq!(fake.all()["reserved-port 11211"], "off");
    assert!(!guard.path.exists());
}

#[test]
fn a_file_or_a_folder_that_others_may_write_to_is_not_used() {
    let (fake, folder) = (Fake::new(), Folder::new("others"));
    let mut guard = guard(&fake, &folder);
    guard.change(&Setting::Mtu, "1400").expect("it can");
    let refused = |path: &Path, mode, usual| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        let error = left_behind("eth7", &folder.0).expect_err("it is refused").to_string();
        assert!(error.contains("not used"), "{error}");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(usual)).expect("it is ours");
    };
    refused(&folder.0, 0o777, 0o700);
    refused(&guard.path, 0o666, 0o600);
    assert_eq!(left_behind("eth7", &folder.0).expect("it can be read").len(), 1);
    guard.restore();
}

#[test]
fn a_file_that_is_not_understood_is_said_not_skipped() {
    let folder = Folder::new("garbage");
    std::fs::create_dir_all(&folder.0).expect("it can be made");
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    let record = Record::new("eth7".to_owned(), 7, Program::Server, std::process::id()).expect("/proc is there");
    std::fs::write(record.path(&folder.0), "{").expect("it can be written");
    std::fs::set_permissions(record.path(&folder.0), std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    let error = left_behind("eth7", &folder.0).expect_err("it is no record").to_string();
    assert!(error.contains("is not understood"), "{error}");
}

/// Writes the file of process `pid`, which no process can be, with all kinds of settings of an interface that is gone; `program` is its
/// line about what the process was.
fn left_by(folder: &Folder, pid: u32, program: &str) -> PathBuf {
    let settings = [
        "mtu",
        "channels",
        "napi 0",
        "file /sys/class/net/eth7/gro_flush_timeout",
        "file /proc/irq/7/smp_affinity_list",
    ];
    let entry = |setting| format!("[[settings]]\nsetting = \"{setting}\"\nbefore = \"1\"\nset = \"2\"\n");
    let head = format!("interface = \"eth7\"\nindex = 2147483632\nsince = {pid}\n");
    // No process has been started at tick 1 but the kernel's own.
    let text = format!("{head}[owner]\n{program}pid = {pid}\nstarted = 1\n{}", settings.map(entry).concat());
    let record = Record::new("eth7".to_owned(), 7, Program::Server, std::process::id());
    let mut record = record.expect("/proc is there");
    record.owner.pid = pid;
    let path = record.path(&folder.0);
    std::fs::create_dir_all(&folder.0).expect("it can be made");
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    std::fs::write(&path, text).expect("it can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    path
}

#[test]
fn a_file_says_whose_it_is_so_that_a_server_gives_back_all_that_one_has_left_and_nothing_of_a_launchers() {
    let folder = Folder::new("whose");
    let server = left_by(&folder, 4_000_001, "program = \"server\"\n");
    let launcher = left_by(&folder, 4_000_002, "program = \"launcher\"\n");
    let of_before = left_by(&folder, 4_000_003, "");
    let servers = |left: &LeftBehind| left.program() == Some(Program::Server);
    let outcomes = give_back("eth7", &folder.0, servers).expect("the folder can be read");
    assert_eq!(lines(outcomes), ["interface eth7 is gone, and its settings with it"], "whatever the settings are");
    assert!(!server.exists() && launcher.exists() && of_before.exists());
    let left: Vec<_> = left_behind("eth7", &folder.0).expect("it can").iter().map(LeftBehind::program).collect();
    assert_eq!(left, [None, Some(Program::Launcher)]);
}

#[test]
fn what_a_server_saves_says_that_it_is_one() {
    let (fake, folder) = (Fake::new(), Folder::new("server"));
    let mut guard = guard(&fake, &folder);
    guard.change(&Setting::Mtu, "1400").expect("it can");
    let found = left_behind("eth7", &folder.0).expect("the folder can be read");
    assert_eq!(found[0].program(), Some(Program::Server));
    guard.restore();
}
