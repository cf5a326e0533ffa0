package client

import (
	"context"
	"fmt"
	"net/http"
)

// Variable is a name and a value that containers, or the device itself, are given.
type Variable struct {
	ID       int64  `json:"id"`
	Name     string `json:"name"`
	Value    string `json:"value"`
	Scope    string `json:"scope"`        // fleet or device
	Service  string `json:"service_name"` // "" for all services
	Config   bool   `json:"config"`       // obeyed by the device, never seen by containers
	Resource string `json:"resource"`     // where it is kept, for example device_environment_variable
}

// VariableScope is where variables belong: a fleet or a device, and there to all services, to one, or to the
// device's own configuration. Either Fleet or Device is set, not both; Config goes with no Service.
type VariableScope struct {
	Fleet, Device, Service int64
	Config                 bool
}

// place finds the resource for a scope, its column of the parent and the parent's id.
func (c *Client) place(ctx context.Context, s VariableScope) (resource, column string, parent int64, err error) {
	switch {
	case s.Fleet != 0 && s.Config:
		return "application_config_variable", "application", s.Fleet, nil
	case s.Fleet != 0 && s.Service != 0:
		return "service_environment_variable", "service", s.Service, nil
	case s.Fleet != 0:
		return "application_environment_variable", "application", s.Fleet, nil
	case s.Config:
		return "device_config_variable", "device", s.Device, nil
	case s.Service == 0:
		return "device_environment_variable", "device", s.Device, nil
	}
	installs, err := Rows[Row](ctx, c, "service_install", Query{
		Select: []string{"id"}, Filter: Filter("device eq ? and installs__service eq ?", s.Device, s.Service),
	})
	i, err := one(installs, err, "the service is not installed on the device")
	return "device_service_environment_variable", "service_install", i.ID, err
}

// SetVariable sets a variable, whether it was there or not.
func (c *Client) SetVariable(ctx context.Context, s VariableScope, name, value string) error {
	resource, column, parent, err := c.place(ctx, s)
	if err != nil {
		return err
	}
	err = c.Create(ctx, resource, map[string]any{column: parent, "name": name, "value": value}, nil)
	if StatusOf(err) != http.StatusConflict {
		return err
	}
	return c.Patch(ctx, resource, Query{Filter: Filter(column+" eq ? and name eq ?", parent, name)}, map[string]any{"value": value})
}

// RemoveVariable removes a variable. One that is not there is an *Error with status 404.
func (c *Client) RemoveVariable(ctx context.Context, s VariableScope, name string) error {
	resource, column, parent, err := c.place(ctx, s)
	if err != nil {
		return err
	}
	rows, err := Rows[Row](ctx, c, resource, Query{Select: []string{"id"}, Filter: Filter(column+" eq ? and name eq ?", parent, name)})
	row, err := one(rows, err, fmt.Sprintf("no variable %s is set there", name))
	if err != nil {
		return err
	}
	return c.Delete(ctx, Key(resource, row.ID), Query{})
}

// variableRow is a row of any of the six resources.
type variableRow struct {
	Row
	Name    string       `json:"name"`
	Value   string       `json:"value"`
	Service Ref[Service] `json:"service"`
	Install Ref[struct {
		Service Ref[Service] `json:"installs__service"`
	}] `json:"service_install"`
}

// holder is a resource that keeps variables, and which of its rows.
type holder struct {
	resource string
	filter   string
	expand   []string
	config   bool
}

// FleetVariables lists all variables of a fleet: for all services, for one each, and configuration.
func (c *Client) FleetVariables(ctx context.Context, fleet int64) ([]Variable, error) {
	return c.variables(ctx, "fleet", []holder{
		{resource: "application_environment_variable", filter: Filter("application eq ?", fleet)},
		{
			resource: "service_environment_variable", filter: Filter("service/any(s:s/application eq ?)", fleet),
			expand: []string{"service($select=id,service_name)"},
		},
		{resource: "application_config_variable", filter: Filter("application eq ?", fleet), config: true},
	})
}

// DeviceVariables lists all variables of one device, without those of its fleet.
func (c *Client) DeviceVariables(ctx context.Context, device int64) ([]Variable, error) {
	return c.variables(ctx, "device", []holder{
		{resource: "device_environment_variable", filter: Filter("device eq ?", device)},
		{
			resource: "device_service_environment_variable", filter: Filter("service_install/any(si:si/device eq ?)", device),
			expand: []string{"service_install($select=id;$expand=installs__service($select=id,service_name))"},
		},
		{resource: "device_config_variable", filter: Filter("device eq ?", device), config: true},
	})
}

func (c *Client) variables(ctx context.Context, scope string, holders []holder) ([]Variable, error) {
	out := []Variable{}
	for _, h := range holders {
		rows, err := Rows[variableRow](ctx, c, h.resource, Query{
			Select: []string{"id", "name", "value"}, Expand: h.expand, Filter: h.filter, OrderBy: "name asc",
		})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out = append(out, Variable{
				ID: r.ID, Name: r.Name, Value: r.Value, Scope: scope, Config: h.config, Resource: h.resource,
				Service: r.Service.Value().Name + r.Install.Value().Service.Value().Name, // it has at most one of them
			})
		}
	}
	return out, nil
}
