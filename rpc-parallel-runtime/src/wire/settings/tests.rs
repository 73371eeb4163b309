use std::error::Error as _;

use proptest::prelude::*;

use super::*;
use crate::wire::{Overrides, Sink, decode, encode};

fn any_time() -> impl Strategy<Value = Duration> {
    let most = Duration::from_secs(365 * 24 * 3600);
    (10_000_000..most.as_nanos() as u64, 0..60_u32).prop_map(|(nanos, shift): (u64, u32)| {
        Duration::from_nanos((nanos >> shift).max(10_000_000))
    })
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let sizes = (MAX_MESSAGE_SIZE.least..=MAX_MESSAGE_SIZE.most, 1..=STREAM_WINDOW.most);
    let times = (any_time(), proptest::option::of(any_time()), any_time());
    (sizes, times, any::<bool>(), MAX_DEPTH.least..=MAX_DEPTH.most)
        .prop_map(|((size, window), (interval, silence, first), others, depth)| {
            let settings = Settings::default().with_other_builds(others);
            let settings = settings.with_max_message_size(size)?.with_stream_window(window)?;
            let settings =
                settings.with_heartbeat_interval(interval)?.with_heartbeat_timeout(silence)?;
            settings.with_handshake_timeout(first)?.with_max_depth(depth)
        })
        .prop_map(|it: Result<_, SettingsError>| it.expect("all of them are allowed"))
}

fn parse(text: &str) -> Result<Settings, String> {
    text.parse().map_err(|it: SettingsError| it.to_string())
}

proptest! {
    #[test]
    fn settings_read_back_as_they_were_printed(settings in any_settings()) {
        prop_assert_eq!(parse(&settings.to_string()), Ok(settings));
    }

    #[test]
    fn settings_travel(settings in any_settings()) {
        let mut bytes = Vec::new();
        encode(&settings, &mut Sink::new(&mut bytes, 1024)).expect("they are numbers");

        prop_assert_eq!(decode::<Settings>(&bytes).ok(), Some(settings));
    }

    #[test]
    fn overrides_that_set_everything_leave_nothing(some in any_settings(), others in any_settings()) {
        let overrides = Overrides::parse(&some.to_string()).expect("it was printed");

        prop_assert_eq!(overrides.over(others), some);
    }

    #[test]
    fn whatever_is_written_is_settings_or_an_error(text in any::<String>()) {
        let _ = parse(&text);
    }
}

#[test]
fn all_fields_are_printed() {
    let printed = Settings::default().to_string();

    let expected = "max_message_size=104857600,stream_window=262144,heartbeat_interval=10s,\
                    heartbeat_timeout=30s,handshake_timeout=30s,max_depth=64,other_builds=false";
    assert_eq!(printed, expected);
}

#[test]
fn fields_that_are_not_written_keep_their_defaults() {
    let parsed = parse(" max_message_size = 1500 , heartbeat_timeout=never,");

    let expected = Settings::default().with_max_message_size(1500);
    let expected = expected.and_then(|it| it.with_heartbeat_timeout(None));
    assert_eq!(parsed, Ok(expected.expect("both are allowed")));
    assert_eq!(parse(""), Ok(Settings::default()));
}

#[test]
fn overrides_win_field_by_field() {
    let said = Settings::default().with_max_message_size(1500);
    let said = said.and_then(|it| it.with_handshake_timeout(Duration::from_secs(1)));
    let overrides = Overrides::parse("handshake_timeout=2s").expect("it is right");

    let settings = overrides.over(said.expect("both are allowed"));

    assert_eq!(settings.max_message_size(), 1500);
    assert_eq!(settings.handshake_timeout(), Duration::from_secs(2));
    assert_eq!(settings.heartbeat_timeout(), Settings::default().heartbeat_timeout());
}

#[test]
fn what_is_wrong_is_told_with_what_is_allowed() {
    let sizes = "like `1500`, `64KiB`, `100MiB` or `1GiB`";
    let times = "a time from 10ms to 8760h, like `250ms`, `2s`, `1m` or `1h`";
    let fields = "`max_message_size`, `stream_window`, `heartbeat_interval`, `heartbeat_timeout`, \
                  `handshake_timeout`, `max_depth`, `other_builds`";
    for (text, expected) in [
        (
            "max_message_size=12X",
            format!(
                "`max_message_size` is `12X`, and must be a size from 1KiB to 4095MiB, {sizes}"
            ),
        ),
        (
            "stream_window=0",
            format!("`stream_window` is `0`, and must be a size from 1 to 1GiB, {sizes}"),
        ),
        ("heartbeat_interval=5ms", format!("`heartbeat_interval` is `5ms`, and must be {times}")),
        ("handshake_timeout=never", format!("`handshake_timeout` is `never`, and must be {times}")),
        ("handshake_timeout", format!("`handshake_timeout` is ``, and must be {times}")),
        (
            "heartbeat_timeout=30",
            format!("`heartbeat_timeout` is `30`, and must be {times}, or `never`"),
        ),
        ("max_depth=0", "`max_depth` is `0`, and must be a number from 1 to 4096".to_owned()),
        ("max_depth=2m", "`max_depth` is `2m`, and must be a number from 1 to 4096".to_owned()),
        ("other_builds=yes", "`other_builds` is `yes`, and must be `true` or `false`".to_owned()),
        ("max_mesage_size=1500", format!("`max_mesage_size` is no setting; there are {fields}")),
        ("stream_window=1,stream_window=2", "`stream_window` is set twice".to_owned()),
    ] {
        assert_eq!(parse(text), Err(expected));
    }
}

#[test]
fn what_is_not_allowed_cannot_be_set() {
    let settings = Settings::default();
    let (short, long) = (Duration::from_millis(9), Duration::from_secs(366 * 24 * 3600));

    for refused in [
        settings.with_max_message_size(1023),
        settings.with_max_message_size(4096 * 1024 * 1024),
        settings.with_stream_window(0),
        settings.with_stream_window(1024 * 1024 * 1024 + 1),
        settings.with_heartbeat_interval(short),
        settings.with_heartbeat_interval(long),
        settings.with_heartbeat_timeout(short),
        settings.with_heartbeat_timeout(long),
        settings.with_handshake_timeout(short),
        settings.with_handshake_timeout(long),
        settings.with_max_depth(0),
        settings.with_max_depth(4097),
    ] {
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn what_is_not_allowed_cannot_be_received() {
    let (short, right) = (Duration::from_millis(9), Settings::default());

    for (field, wrong) in [
        ("max_message_size", Settings { max_message_size: 1023, ..right }),
        ("stream_window", Settings { stream_window: 0, ..right }),
        ("stream_window", Settings { stream_window: u32::MAX, ..right }),
        ("heartbeat_interval", Settings { heartbeat_interval: short, ..right }),
        ("heartbeat_timeout", Settings { heartbeat_timeout: Some(short), ..right }),
        ("handshake_timeout", Settings { handshake_timeout: Duration::ZERO, ..right }),
        ("max_depth", Settings { max_depth: 0, ..right }),
    ] {
        let mut bytes = Vec::new();
        encode(&wrong, &mut Sink::new(&mut bytes, 1024)).expect("they are numbers");

        let error = decode::<Settings>(&bytes).expect_err("it is not allowed");

        let why = error.source().expect("there is a reason").to_string();
        assert!(why.starts_with(&format!("`{field}` is `")), "{why}");
        assert!(why.contains(", and must be a "), "{why}");
    }
}

#[test]
fn a_peer_is_asked_three_times_before_it_is_lost() {
    let beat = |text| parse(text).map(|it| it.heartbeat_period());

    assert_eq!(beat("heartbeat_timeout=3s"), Ok(Duration::from_secs(1)));
    assert_eq!(beat("heartbeat_interval=1m"), Ok(Duration::from_secs(10)));
    assert_eq!(beat("heartbeat_interval=1m,heartbeat_timeout=never"), Ok(Duration::from_secs(60)));
    assert_eq!(beat("heartbeat_interval=250ms"), Ok(Duration::from_millis(250)));
}
