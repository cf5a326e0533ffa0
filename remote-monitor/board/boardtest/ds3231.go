package boardtest

// DS3231 is a real-time clock, which has the address of an ADC Pi (Maxim DS3231). Its time stands still. Make it with
// NewDS3231.
type DS3231 struct {
	Chip
	registers [19]byte
	pointer   int
	pointed   bool
	writes    int
}

// NewDS3231 makes a clock that shows Saturday, 1 March 2025, 12:34:56.
func NewDS3231() *DS3231 {
	d := &DS3231{}
	d.por = func() {
		d.registers = [19]byte{0x56, 0x34, 0x12, 0x06, 0x01, 0x03, 0x25, 0x0E: 0x1C, 0x88, 0x00, 0x19, 0x40}
		d.pointer = 0
	}
	d.por()
	return d
}

// Writes is how many bytes were written to it, the pointer included.
func (d *DS3231) Writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// Start implements Device.
func (d *DS3231) Start(read bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pointed = read
	return d.answers()
}

// Write implements Device.
func (d *DS3231) Write(b byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuses() {
		return false
	}
	d.writes++
	if !d.pointed {
		d.pointer, d.pointed = int(b)%len(d.registers), true
		return true
	}
	d.registers[d.pointer] = b
	d.pointer = (d.pointer + 1) % len(d.registers)
	return true
}

// Read implements Device.
func (d *DS3231) Read() byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.registers[d.pointer]
	d.pointer = (d.pointer + 1) % len(d.registers)
	return v
}

// Stop implements Device.
func (d *DS3231) Stop() {}
