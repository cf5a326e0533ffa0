package boardtest

// converter is what the simulators of converters have in common: voltages at four terminals, and conversions that go
// wrong. It is part of each.
type converter struct {
	Chip
	volts   [4]float64
	never   bool
	stale   bool
	advance func() // lets conversions end that have; called with the lock held
}

// SetVolts sets the voltage at the terminal of channel 1 to 4.
func (c *converter) SetVolts(channel int, volts float64) {
	c.change(func() { c.volts[channel-1] = volts })
}

// NeverReady makes conversions never end, as a converter does that was seen in the field; or end again.
func (c *converter) NeverReady(on bool) { c.change(func() { c.never = on }) }

// Stale makes the converter deaf to new settings: whatever is asked of it, it gives its last result again, as if it
// were new, under the settings which that had.
func (c *converter) Stale(on bool) { c.change(func() { c.stale = on }) }

// change lets pass what was under way until now, under what held until now.
func (c *converter) change(set func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	set()
}
