//! The cars that are asked about.

use ev_client::proto::ev::range::v1::PredictRequest;

/// Different cars with every field a catalogue gives; all of the kind the bundled model knows, so that the answers are usual ones.
#[must_use]
pub fn cars() -> Vec<PredictRequest> {
    let known = [
        ("Tesla", "Model 3", "D - Large", "Sedan", "RWD", 57.5, 208.0),
        ("Tesla", "Model Y Long Range", "JD - Large", "SUV", "AWD", 75.0, 378.0),
        ("BMW", "i4 eDrive40", "D - Large", "Liftback Sedan", "RWD", 80.7, 250.0),
        ("Hyundai", "IONIQ 5", "JC - Medium", "SUV", "RWD", 74.0, 168.0),
        ("Kia", "EV6", "JC - Medium", "SUV", "AWD", 74.0, 239.0),
        ("Volkswagen", "ID.3 Pro", "C - Medium", "Hatchback", "RWD", 58.0, 150.0),
        ("Renault", "Megane E-Tech", "C - Medium", "Hatchback", "FWD", 60.0, 160.0),
        ("Polestar", "4 Long Range", "JD - Large", "SUV", "AWD", 94.0, 400.0),
    ];
    known
        .into_iter()
        .map(|(make, model, segment, body_type, drivetrain, battery_capacity_kwh, motor_power_kw)| PredictRequest {
            make: make.to_owned(),
            model: model.to_owned(),
            segment: Some(segment.to_owned()),
            body_type: Some(body_type.to_owned()),
            drivetrain: Some(drivetrain.to_owned()),
            battery_capacity_kwh: Some(battery_capacity_kwh),
            motor_power_kw: Some(motor_power_kw),
            torque_nm: Some(420.0),
            seats: Some(5),
            length_mm: Some(4_720.0),
            width_mm: Some(1_850.0),
            height_mm: Some(1_600.0),
            top_speed_kmh: Some(200.0),
            acceleration_0_100_kmh_s: Some(6.1),
            fast_charging_power_kw: Some(170.0),
            towing_capacity_kg: Some(1_000.0),
            cargo_volume_l: Some(500.0),
            ..PredictRequest::default()
        })
        .collect()
}
