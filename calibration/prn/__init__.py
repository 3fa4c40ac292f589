"""PRN, the prototypical residual network (Zhang et al., CVPR 2023), module by module.

`network` puts them together: `prototypes` (section 3.1), `fusion` (3.2), `attention` (3.3) and the
U-Net's `decoder`; `losses` has equation 5. The scorer is `calibration.scorers.prn`.
"""
