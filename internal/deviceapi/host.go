package deviceapi

import (
	"io"
	"net/http"
	"strings"
)

// noVPN is the configuration of a VPN client that connects to nothing. The service that asks must be given one, and the
// target's config keeps the client off.
const noVPN = "# This server has no VPN; SUPERVISOR_VPN_CONTROL keeps this service off.\n"

// osConfig answers balenaOS' configuration service (protocol §1.5): every service it may ask for is named. SSH keys are
// for the sshd to ask (hostKeys).
func (s *Server) osConfig(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.Auth.Request(r); err != nil {
		return err
	}
	overrides := map[string]string{}
	if s.LogsURL != "" {
		overrides["logsEndpoint"] = s.LogsURL
	}
	return answer(w, http.StatusOK, map[string]any{
		"services": map[string]any{
			"openvpn": map[string]string{"config": noVPN, "ca": ""},
			"ssh":     map[string]string{"authorized_keys": ""},
		},
		"config":         map[string]any{"overrides": overrides},
		"schema_version": "1.0.0",
	})
}

// hostKeys answers the SSH keys that open a device's host, one on a line, to the device's sshd.
func (s *Server) hostKeys(w http.ResponseWriter, r *http.Request) error {
	d, err := s.speaking(r, r.PathValue("uuid"))
	if err != nil {
		return err
	}
	keys, err := s.Store.HostKeys(r.Context(), d.Fleet)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, key := range keys {
		if _, err := io.WriteString(w, strings.TrimSpace(key)+"\n"); err != nil {
			return nil // the device asks again
		}
	}
	return nil
}
