use super::*;

fn set(key: &str, text: &str) -> Setting {
    Setting { origin: format!("--{key}"), key: key.into(), text: text.into() }
}

fn open() -> Setting {
    set("open", "loopback")
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "window = 40\nhold = 5\nregion = \"eu\"\n[limits]\nidle_ms = 3000\n";
    let env = environment([("WEIR_HOLD".into(), "6".into()), ("WEIR_LIMITS__IDLE_MS".into(), "4000".into())].into_iter());
    let c = merge(Some((Path::new("f.toml"), file)), &env, &[open(), set("limits.idle_ms", "5000")]).unwrap();
    assert_eq!((c.window, c.hold, c.limits.idle_ms, c.region.as_str(), c.end_after), (40, 6, 5000, "eu", 300));
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let read = |text: &str| merge(Some((Path::new("f.toml"), text)), &[], &[open()]);
    assert!(read("version = 1").is_ok());
    assert_eq!(read("version = 2").unwrap_err().to_string(), "version is 2, must be 1 to 1");
}

#[test]
fn a_loudness_target_is_within_what_services_use() {
    let read = |text: &str| merge(None, &[], &[open(), set("loudness.target_lufs", text)]);
    assert_eq!(read("0").unwrap().loudness.target(), None);
    assert_eq!(read("-23").unwrap().loudness.target(), Some(-2300));
    assert_eq!(read("-6").unwrap_err().to_string(), "loudness.target_lufs is -6, must be 0 or -24 to -14");
}

#[test]
fn thumbnails_are_small_and_not_kept_for_ever() {
    let read = |key: &str, text: &str| merge(None, &[], &[open(), set(key, text)]);
    assert!(read("thumbnail.every", "0").unwrap().thumbnail.settings().every.is_zero());
    assert_eq!(read("thumbnail.keep", "0").unwrap().thumbnail.settings().every, Duration::from_secs(4));
    for (key, text) in [("every", "3601"), ("short_side", "63"), ("short_side", "721"), ("quality", "91"), ("keep", "3601")] {
        let said = read(&format!("thumbnail.{key}"), text).unwrap_err().to_string();
        assert!(said.contains(&format!("thumbnail.{key} is {text}, must be")), "{said}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let e = merge(Some((Path::new("f.toml"), "reconect_grace = 3")), &[], &[open()]).unwrap_err().to_string();
    assert_eq!(e, "f.toml: unknown setting \"reconect_grace\", did you mean \"reconnect_grace\"?");
    let e = merge(Some((Path::new("f.toml"), "[limits]\nidle = 3")), &[], &[open()]).unwrap_err().to_string();
    assert!(e.contains("limits.idle_ms"), "{e}");
    let e = merge(None, &[], &[open(), set("windwo", "1")]).unwrap_err().to_string();
    assert!(e.contains("window"), "{e}");
}

#[test]
fn pathways_come_from_a_table_or_a_list_and_are_checked() {
    let file = "steering_url = \"https://s.example/\"\n[[pathway]]\nid = \"a\"\nbase_url = \"https://a.example\"\n";
    let c = merge(Some((Path::new("f.toml"), file)), &[], &[open()]).unwrap();
    let pathways = c.pathways().unwrap();
    assert_eq!(pathways.list[0].base_url.as_str(), "https://a.example/");
    assert!(pathways.steering_url.is_some());
    let list = set("pathway", "[{ id = \"b\", base_url = \"http://b.example/x\", region = \"us\" }]");
    let c = merge(Some((Path::new("f.toml"), file)), &[], &[open(), list]).unwrap();
    assert_eq!(c.pathways().unwrap().list[0].id.as_str(), "b");
    let refused = |flags: &[Setting]| merge(None, &[], flags).unwrap_err().to_string();
    assert!(refused(&[open(), set("pathway", "[{ id = \"b\", base = \"x\" }]")]).contains("base"));
    assert!(refused(&[open(), set("pathway", "b")]).contains("no list"));
    assert!(refused(&[open(), set("steering_url", "https://s.example/")]).contains("[[pathway]]"));
}

#[test]
fn an_open_worker_is_refused_beyond_loopback() {
    let wide = set("rtmp", "0.0.0.0:1935");
    let check = |flags: &[Setting]| merge(None, &[], flags).unwrap().check_publishers();
    assert!(check(&[open(), wide.clone()]).unwrap_err().to_string().contains("--open=anywhere"));
    assert!(check(&[set("open", "anywhere"), wide]).is_ok());
    assert!(check(&[open(), set("rtmp", "[::1]:1935")]).is_ok());
    assert!(check(&[]).unwrap_err().to_string().contains("--keys"));
}

#[test]
fn rtmps_needs_an_address_and_a_pair() {
    let read = |flags: &[Setting]| merge(None, &[], &[&[open()], flags].concat());
    let pair = [set("tls.certificate", "c.pem"), set("tls.key", "k.pem")];
    assert_eq!(read(&pair).unwrap().rtmps().unwrap(), None);
    let asked = [&pair[..], &[set("rtmps", "[::1]:1936")]].concat();
    let (address, files) = read(&asked).unwrap().rtmps().unwrap().unwrap();
    assert_eq!((address.to_string().as_str(), files.key.to_str()), ("[::1]:1936", Some("k.pem")));
    let wide = read(&[&pair[..], &[set("rtmps", "0.0.0.0:1936")]].concat()).unwrap();
    assert!(wide.check_publishers().unwrap_err().to_string().contains("--open=anywhere"));
    let refused = |flags: &[Setting]| read(flags).unwrap_err().to_string();
    assert!(refused(&[set("rtmps", "127.0.0.1:1936")]).contains("tls.certificate"));
    assert!(refused(&[&pair[..], &[set("rtmps", "1936")]].concat()).contains("ADDRESS:PORT"));
}

#[test]
fn load_balancers_are_networks_and_a_move_goes_to_a_server() {
    let read = |key: &str, text: &str| merge(None, &[], &[open(), set(key, text)]);
    let networks = read("proxy_protocol_from", r#"["10.0.0.0/8", "fd00::/8"]"#).unwrap().proxy_protocol_from;
    assert!(networks[1].contains(&"fd00::1".parse::<std::net::IpAddr>().unwrap()));
    assert!(read("proxy_protocol_from", r#"["10.0.0.0/33"]"#).is_err());
    assert!(read("move_to", "rtmps://b.example/live").is_ok());
    assert!(read("move_to", "b.example").unwrap_err().to_string().contains("rtmps://HOST/live"));
}

#[test]
fn somebody_may_publish_by_each_way_and_by_none_beside_open() {
    let check = |flags: &[Setting]| merge(None, &[], flags).unwrap().check_publishers();
    for (key, text) in [("keys", "f"), ("signed.keys", "f"), ("webhook.url", "https://a.example/")] {
        assert!(check(&[set(key, text)]).is_ok(), "{key}");
        assert_eq!(check(&[set(key, text), open()]).is_ok(), key == "keys", "{key}");
    }
    let bans = |text: &str| merge(None, &[], &[set("bans.exempt", text)]).map(|c| c.bans.exempt.len());
    assert_eq!(bans("['10.0.0.0/8', '2001:db8::/32']").unwrap(), 2);
    assert!(bans("['10.0.0.0/33']").is_err());
    assert!(merge(None, &[], &[set("webhook.deadline_ms", "1")]).is_err());
}

#[test]
fn ladders_are_known_by_the_names_of_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let (sport, again) = (folder.path().join("sport.toml"), folder.path().join("default.toml"));
    std::fs::write(&sport, DEFAULT_LADDER).unwrap();
    std::fs::write(&again, DEFAULT_LADDER).unwrap();
    let named = |files: Vec<PathBuf>| Config { ladders: files, ..Config::default() }.load_named_ladders();
    let names: Vec<String> = named(vec![sport]).unwrap().into_keys().collect();
    assert_eq!(names, ["default", "none", "sport"]);
    assert!(named(vec![again]).unwrap_err().to_string().contains("there is a ladder default already"));
}

#[test]
fn srt_is_an_address_or_off_and_open_beyond_loopback_only_by_word() {
    let with = |address: &str| merge(None, &[], &[open(), set("srt", address)]);
    assert_eq!(with("").unwrap().srt_address().unwrap(), None);
    assert_eq!(with("[::1]:1").unwrap().srt_address().unwrap(), Some("[::1]:1".parse().unwrap()));
    assert!(with("8890").unwrap_err().to_string().contains("srt is \"8890\""));
    assert!(with("0.0.0.0:8890").unwrap().check_publishers().unwrap_err().to_string().contains("--open=anywhere"));
    assert!(with("").unwrap().check_publishers().is_ok());
    assert!(with("").unwrap().srt_was_set && !merge(None, &[], &[open()]).unwrap().srt_was_set);
}

#[test]
fn the_default_ladder_is_read() {
    let c = merge(None, &[], &[open()]).unwrap();
    assert_eq!(c.load_ladder().unwrap().unwrap().rungs.len(), 3);
}
