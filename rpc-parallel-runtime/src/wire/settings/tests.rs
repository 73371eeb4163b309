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
    let sizes = (MAX_MESSAGE_SIZE.min..=MAX_MESSAGE_SIZE.max, 1..=STREAM_WINDOW.max);
    let times = (any_time(), proptest::option::of(any_time()), any_time());
    let kept = KEPT_JOB_RESULTS.min..=KEPT_JOB_RESULTS.max;
    let busy_poll = prop_oneof![
        Just(BusyPoll::Auto),
        Just(BusyPoll::Never),
        (1_000..=1_000_000_000_u64).prop_map(|it| BusyPoll::For(Duration::from_nanos(it))),
    ];
    (sizes, times, any::<bool>(), MAX_DEPTH.min..=MAX_DEPTH.max, (kept, busy_poll)).prop_map(
        |((size, window), (interval, timeout, handshake), others, depth, (kept, busy_poll))| {
            let settings = Settings::default().with_other_builds(others);
            let settings = settings.with_max_message_size(size).with_stream_window(window);
            let settings =
                settings.with_heartbeat_interval(interval).with_heartbeat_timeout(timeout);
            let settings = settings.with_handshake_timeout(handshake).with_max_depth(depth);
            settings.with_kept_job_results(kept).with_busy_poll(busy_poll)
        },
    )
}

fn parse(text: &str) -> Result<Settings, String> {
    text.parse().map_err(|it: SettingsError| it.to_string())
}

proptest! {
    #[test]
    fn settings_survive_printing_and_parsing(settings in any_settings()) {
        prop_assert_eq!(parse(&settings.to_string()), Ok(settings));
    }

    #[test]
    fn settings_survive_encoding_and_decoding(settings in any_settings()) {
        let mut bytes = Vec::new();
        encode(&settings, &mut Sink::new(&mut bytes, 1024)).expect("they are numbers");

        prop_assert_eq!(decode::<Settings>(&bytes).ok(), Some(settings));
    }

    #[test]
    fn overrides_can_set_every_field(some in any_settings(), others in any_settings()) {
        let overrides = Overrides::parse(&some.to_string()).expect("it was printed");

        prop_assert_eq!(overrides.over(others), some);
    }

    #[test]
    fn arbitrary_text_is_settings_or_error(text in any::<String>()) {
        let _ = parse(&text);
    }
}

#[test]
fn all_fields_are_printed() {
    let printed = Settings::default().to_string();

    let expected = "max_message_size=104857600,stream_window=262144,\
                    connection_window=1073741824,max_calls=1048576,max_one_way_calls=65536,\
                    max_pipes=65536,heartbeat_interval=10s,\
                    heartbeat_timeout=30s,handshake_timeout=30s,max_depth=64,kept_job_results=268435456,\
                    busy_poll=auto,other_builds=false";
    assert_eq!(printed, expected);
}

#[test]
fn omitted_fields_keep_defaults() {
    let parsed = parse(" max_message_size = 1500 , heartbeat_timeout=never,");

    let expected = Settings::default().with_max_message_size(1500);
    let expected = expected.with_heartbeat_timeout(None);
    assert_eq!(parsed, Ok(expected));
    assert_eq!(parse(""), Ok(Settings::default()));
}

#[test]
fn overrides_replace_single_fields() {
    let own = Settings::default().with_max_message_size(1500);
    let own = own.with_handshake_timeout(Duration::from_secs(1));
    let overrides = Overrides::parse("handshake_timeout=2s").expect("the text is valid");

    let settings = overrides.over(own);

    assert_eq!(settings.max_message_size(), 1500);
    assert_eq!(settings.handshake_timeout(), Duration::from_secs(2));
    assert_eq!(settings.heartbeat_timeout(), Settings::default().heartbeat_timeout());
}

#[test]
fn invalid_text_fails_with_allowed_values() {
    let sizes = "such as `1500`, `64KiB`, `100MiB` or `1GiB`";
    let times = "a duration from 10ms to 8760h, such as `250ms`, `2s`, `1m` or `1h`";
    let invalid = |field: &str, expected: &str, found: &str| {
        format!("invalid setting `{field}`: expected {expected}, found `{found}`")
    };
    let fields = "`max_message_size`, `stream_window`, `connection_window`, `max_calls`, \
                  `max_one_way_calls`, `max_pipes`, `heartbeat_interval`, `heartbeat_timeout`, \
                  `handshake_timeout`, `max_depth`, `kept_job_results`, `busy_poll`, \
                  `other_builds`";
    let depths = "a number from 1 to 4096";
    let polls = "`auto`, `never`, or a duration from 1us to 1s, such as `50us`";
    for (text, expected) in [
        (
            "max_message_size=12X",
            invalid("max_message_size", &format!("a size from 1KiB to 4095MiB, {sizes}"), "12X"),
        ),
        (
            "stream_window=0",
            invalid("stream_window", &format!("a size from 1 to 1GiB, {sizes}"), "0"),
        ),
        ("heartbeat_interval=5ms", invalid("heartbeat_interval", times, "5ms")),
        ("handshake_timeout=never", invalid("handshake_timeout", times, "never")),
        ("handshake_timeout", invalid("handshake_timeout", times, "")),
        (
            "heartbeat_timeout=30",
            invalid("heartbeat_timeout", &format!("{times}, or `never`"), "30"),
        ),
        ("max_depth=0", invalid("max_depth", depths, "0")),
        ("max_depth=2m", invalid("max_depth", depths, "2m")),
        ("busy_poll=999ns", invalid("busy_poll", polls, "999ns")),
        ("busy_poll=always", invalid("busy_poll", polls, "always")),
        ("other_builds=yes", invalid("other_builds", "`true` or `false`", "yes")),
        (
            "max_mesage_size=1500",
            format!("unknown setting `max_mesage_size`: expected one of {fields}"),
        ),
        ("stream_window=1,stream_window=2", "setting `stream_window` is given twice".to_owned()),
    ] {
        assert_eq!(parse(text), Err(expected));
    }
}

#[test]
fn disallowed_value_cannot_be_set() {
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
        assert!(refused.validate().is_err(), "{refused:?}");
    }
}

#[test]
fn disallowed_value_cannot_be_received() {
    let (short, right) = (Duration::from_millis(9), Settings::default());

    for (field, wrong) in [
        ("max_message_size", Settings(Fields { max_message_size: 1023, ..right.0 })),
        ("stream_window", Settings(Fields { stream_window: 0, ..right.0 })),
        ("stream_window", Settings(Fields { stream_window: usize::MAX, ..right.0 })),
        ("heartbeat_interval", Settings(Fields { heartbeat_interval: short, ..right.0 })),
        ("heartbeat_timeout", Settings(Fields { heartbeat_timeout: Some(short), ..right.0 })),
        ("handshake_timeout", Settings(Fields { handshake_timeout: Duration::ZERO, ..right.0 })),
        ("max_depth", Settings(Fields { max_depth: 0, ..right.0 })),
    ] {
        let mut bytes = Vec::new();
        encode(&wrong, &mut Sink::new(&mut bytes, 1024)).expect("they are numbers");

        let error = decode::<Settings>(&bytes).expect_err("it is not allowed");

        let why = error.source().expect("there is a reason").to_string();
        assert!(why.starts_with(&format!("invalid setting `{field}`: expected a ")), "{why}");
    }
}

#[test]
fn heartbeat_interval_is_at_most_third_of_timeout() {
    let period = |text| parse(text).map(|it| it.heartbeat_period());

    assert_eq!(period("heartbeat_timeout=3s"), Ok(Duration::from_secs(1)));
    assert_eq!(period("heartbeat_interval=1m"), Ok(Duration::from_secs(10)));
    assert_eq!(
        period("heartbeat_interval=1m,heartbeat_timeout=never"),
        Ok(Duration::from_secs(60))
    );
    assert_eq!(period("heartbeat_interval=250ms"), Ok(Duration::from_millis(250)));
}
