//! What the reports say of devices.

use super::*;

#[test]
fn the_text_report_of_a_program_with_gpus_reads_as_agreed() {
    let (profile, diagnosis) = rich_with_gpu();
    for (name, options) in [
        ("report_gpu_100.txt", TextOptions::default()),
        ("report_gpu_60.txt", TextOptions::default().width(60)),
    ] {
        golden(name, &report_text(&profile, &diagnosis, &options));
    }
}

#[test]
fn the_json_report_of_a_program_with_gpus_reads_as_agreed() {
    let (profile, diagnosis) = rich_with_gpu();
    let json = json(&profile, &diagnosis);
    let gpu = serde_json::to_string_pretty(&json["gpu"]).unwrap();
    golden("report_gpu.json", &(gpu + "\n"));
    let of_path = &json["paths"][1];
    assert_eq!(of_path["path"], serde_json::json!(["index", "tokenise"]));
    for row in [of_path, &json["sites"][0]] {
        assert_eq!(row["gpu"]["total"]["busy_ns"], 5_400_000_000_u64);
        assert_eq!(row["gpu"]["own"]["busy_ns"], 400_000_000);
        assert_eq!(row["gpu"]["own"]["launch_delay"]["count"], 102);
    }
    assert!(
        json["sites"][1].get("gpu").is_none(),
        "it had no device do anything"
    );
}

#[test]
fn the_device_time_of_a_program_is_never_said_to_be_that_of_its_calls() {
    let (mut profile, diagnosis) = rich_with_gpu();
    let gpu = profile.gpu.as_mut().unwrap();
    gpu.devices.truncate(1);
    gpu.devices[0].totals.launch_time = Nanos(7_777_000_000);
    gpu.devices[0].totals.sync_time = Nanos(8_888_000_000);
    let text = report_text(&profile, &diagnosis, &TextOptions::default().width(160));
    let section = text.split("\nGPU  ").nth(1).unwrap();
    let section = section.split("SITES BY SELF TIME").next().unwrap();
    assert_eq!(text.matches("device time").count(), 1);
    for (time, what) in [
        ("7.78 s", "launch calls (host)"),
        ("8.89 s", "waiting calls (host)"),
    ] {
        let line = section.lines().find(|line| line.contains(time)).unwrap();
        assert!(line.contains(what), "{line}");
        assert_eq!(section.matches(time).count(), 1);
    }
}

#[test]
fn a_program_in_which_no_device_did_anything_says_why() {
    let (mut profile, diagnosis) = rich();
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(!text.contains("GPU"));
    profile.gpu = Some(GpuProfile {
        notices: vec![GpuNotice::new(
            "kernels and copies",
            "there is no libcuda.so.1.",
        )],
        ..GpuProfile::default()
    });
    profile.losses = Losses::default();
    profile.exports.clear();
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("Not measured: kernels and copies - there is no libcuda.so.1.\n"));
    assert!(text.contains("No device did anything.\n"));
    assert!(text.contains("Nothing was lost."));
    profile.gpu.as_mut().unwrap().unattributed = 1;
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("1 piece of GPU work whose call was not seen"));
    assert!(!text.contains("Nothing was lost."));
}
