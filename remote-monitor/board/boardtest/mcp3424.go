package boardtest

import (
	"math"
	"time"
)

// MCP3424 is one converter of four channels (Microchip DS22088), two of which are an ADC Pi. Make it with NewMCP3424.
type MCP3424 struct {
	converter
	// Scale is the divider before the chip, as volts at the terminal for a volt at the chip. Set it before first use.
	Scale float64
	// Speed makes conversions that many times as fast; 0 is 1. Set it before first use.
	Speed float64

	config     byte      // without RDY
	started    time.Time // of the conversion under way
	converting bool
	code       int  // of the last conversion
	fresh      bool // it has not been read

	at       int // bytes of the read under way
	reading  int // code that the read under way gives out
	was      bool
	produced int
}

// The bits of the configuration.
const (
	mcpReady      = 0x80
	mcpContinuous = 0x10
)

// NewMCP3424 makes a converter behind the divider of an ADC Pi.
func NewMCP3424() *MCP3424 {
	m := &MCP3424{Scale: 2.471}
	m.por, m.advance = m.reset, m.progress
	m.reset()
	return m
}

// Config is the configuration byte as it would be read now.
func (m *MCP3424) Config() byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	return m.echo()
}

// Conversions is how many conversions have ended.
func (m *MCP3424) Conversions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	return m.produced
}

// Start implements Device.
func (m *MCP3424) Start(read bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.answers() {
		return false
	}
	if read {
		m.advance()
		m.at, m.reading, m.was = 0, m.code, m.fresh
	}
	return true
}

// Write implements Device. Each byte is a configuration; the last one counts.
func (m *MCP3424) Write(b byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuses() {
		return false
	}
	m.advance()
	if m.stale {
		return true
	}
	m.config = b &^ mcpReady
	if b&(mcpReady|mcpContinuous) != 0 {
		m.begin()
	}
	return true
}

// Read implements Device: the data bytes, then the configuration for as long as somebody reads.
func (m *MCP3424) Read() byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	n := 2
	if m.bits() == 18 {
		n = 3
	}
	m.at++
	if m.at <= n {
		return byte(m.reading >> (8 * (n - m.at)))
	}
	e := m.echo()
	if m.was {
		// Giving the configuration out completes the reading of this result.
		m.was, m.fresh = false, m.stale
	}
	return e
}

// Stop implements Device.
func (m *MCP3424) Stop() {}

func (m *MCP3424) reset() {
	m.config, m.code, m.fresh = mcpContinuous, 0, false
	m.begin()
}

func (m *MCP3424) begin() {
	m.started, m.converting = m.now(), true
	m.fresh = false
}

// progress lets conversions end that have.
func (m *MCP3424) progress() {
	if !m.converting || m.never || m.stale {
		return
	}
	past, each := m.now().Sub(m.started), m.takes()
	if past < each {
		return
	}
	m.code, m.fresh = m.convert(), true
	if m.config&mcpContinuous == 0 {
		m.converting = false
		m.produced++
		return
	}
	if each <= 0 {
		m.produced++
		return
	}
	m.produced += int(past / each)
	m.started = m.started.Add(past / each * each)
}

// echo is the configuration byte with RDY, which is 0 while the result is new.
func (m *MCP3424) echo() byte {
	if m.fresh || m.stale {
		return m.config
	}
	return m.config | mcpReady
}

func (m *MCP3424) bits() int { return 12 + 2*int(m.config>>2&3) }

// takes is the time of a conversion at the typical rate of the datasheet.
func (m *MCP3424) takes() time.Duration {
	d := [4]time.Duration{time.Second / 240, time.Second / 60, time.Second / 15, time.Second * 4 / 15}[m.config>>2&3]
	if m.Speed > 0 {
		d = time.Duration(float64(d) / m.Speed)
	}
	return d
}

func (m *MCP3424) convert() int {
	top := math.Exp2(float64(m.bits() - 1))
	gain := float64(int(1) << (m.config & 3))
	v := m.volts[m.config>>5&3] / m.Scale
	return int(min(max(math.Round(v*gain/2.048*top), -top), top-1))
}
