package client

import "context"

// Devices lists the devices for which filter holds ("" for all the user may see), by name, with fleet, type and
// the releases they run, should run and are pinned on.
func (c *Client) Devices(ctx context.Context, filter string) ([]Device, error) {
	return Rows[Device](ctx, c, "device", Query{
		Select: []string{
			"id", "created_at", "uuid", "device_name", "note", "overall_status", "is_online", "last_connectivity_event",
			"os_version", "supervisor_version", "ip_address",
		},
		Expand:  deviceReferences(),
		Filter:  filter,
		OrderBy: "device_name asc",
	})
}

// Device reads all there is to know of one device, with what is installed on it. A device that is not there is an
// *Error with status 404.
func (c *Client) Device(ctx context.Context, id int64) (Device, error) {
	rows, err := Rows[Device](ctx, c, Key("device", id), Query{
		Select: []string{
			"id", "created_at", "uuid", "device_name", "note", "overall_status", "overall_progress", "update_status", "is_online",
			"last_connectivity_event", "os_version", "os_variant", "supervisor_version", "ip_address", "mac_address", "public_address",
			"memory_usage", "memory_total", "storage_usage", "storage_total", "cpu_usage", "cpu_temp", "is_undervolted",
		},
		Expand: append(deviceReferences(),
			"image_install($select=id,download_progress,status,install_date;$filter=status ne 'deleted';"+
				"$expand=installs__image($select=id;$expand=is_a_build_of__service($select=id,service_name)),"+
				"is_provided_by__release"+releaseColumns+")"),
	})
	return one(rows, err, "no such device")
}

func deviceReferences() []string {
	return []string{
		"belongs_to__application($select=id,app_name,slug)",
		"is_of__device_type($select=id,slug,name)",
		"is_running__release" + releaseColumns,
		"is_pinned_on__release" + releaseColumns,
		"should_be_running__release" + releaseColumns,
	}
}

// DeviceNames is Devices with id, uuid, name and fleet only.
func (c *Client) DeviceNames(ctx context.Context, filter string) ([]Device, error) {
	return Rows[Device](ctx, c, "device", Query{
		Select: []string{"id", "uuid", "device_name"}, Expand: []string{"belongs_to__application($select=id,app_name,slug)"},
		Filter: filter, OrderBy: "device_name asc",
	})
}

// PatchDevice changes columns of a device.
func (c *Client) PatchDevice(ctx context.Context, id int64, change map[string]any) error {
	return c.Patch(ctx, Key("device", id), Query{}, change)
}
